"""Batches that tasks on other CPUs make, on the shared cluster."""

import io
import json
import os
import tarfile
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ray_classy.dataset import build_dataset
from ray_classy.dataset.loader import PhaseLoader
from ray_classy.dataset.parquet_rows import IN_MEMORY_BYTES
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.split import Split
from ray_classy.errors import DataError
from ray_classy.ingest import ray_feed, ray_window
from ray_classy.ingest.ray_feed import ClusterFeed, Feeding
from ray_classy.ingest.ray_room import room_beside
from tests.helpers import vectors

pytestmark = pytest.mark.ray
ROWS = 14


def image(number):
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 3, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def folder(path):
    for number in range(ROWS):
        place = path / "images" / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image(number))
    return {"name": "image_path", "image_folder": str(path / "images")}


def manifest(path):
    folder(path)
    files = sorted((path / "images").rglob("*.jpg"))
    lines = [json.dumps({"path": str(file), "label": file.parent.name}) for file in files]
    (path / "rows.jsonl").write_text("\n".join(lines))
    return {"name": "manifest", "manifest": str(path / "rows.jsonl")}


def parquet(path):
    table = pa.table({"image": [image(number) for number in range(ROWS)], "label": [n % 2 for n in range(ROWS)]})
    pq.write_table(table, path / "rows.parquet")
    return {"name": "parquet", "files": [str(path / "rows.parquet")]}


def large_parquet(path):
    """A file so large that each node reads the rows from a copy of the columns that it needs."""
    table = pa.table({"image": [image(number) for number in range(ROWS)], "label": [n % 2 for n in range(ROWS)]})
    others = pa.array([os.urandom(IN_MEMORY_BYTES // ROWS + 1) for _ in range(ROWS)])
    pq.write_table(table.append_column("other", others), path / "rows.parquet", row_group_size=5)
    return {"name": "parquet", "files": [str(path / "rows.parquet")]}


def webdataset(path):
    with tarfile.open(path / "rows.tar", "w") as tar:
        for number in range(ROWS):
            for suffix, content in (("jpg", image(number)), ("cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"{number:04}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return {"name": "webdataset", "shards": [str(path / "rows.tar")]}


TAGS = [["x", "y"], [], ["y"], ["x"]]


def listed(path):
    rows = [{"path": file, "label": tags} for file, tags in tagged(path)]
    (path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"name": "manifest", "manifest": str(path / "rows.jsonl")}


def separated(path):
    rows = [f"{file},{'|'.join(tags)}" for file, tags in tagged(path)]
    (path / "rows.csv").write_text("\n".join(["path,label", *rows]))
    return {"name": "manifest", "manifest": str(path / "rows.csv"), "label_separator": "|"}


def columns(path):
    rows = [f"{file},{int('x' in tags)},{int('y' in tags)}" for file, tags in tagged(path)]
    (path / "rows.csv").write_text("\n".join(["path,has_x,has_y", *rows]))
    return {"name": "manifest", "manifest": str(path / "rows.csv"), "label_columns": ["has_*"]}


def several(path):
    table = {"image": [image(number) for number in range(ROWS)], "size": [n % 3 for n in range(ROWS)]}
    pq.write_table(pa.table({**table, "tags": [TAGS[n % 4] for n in range(ROWS)]}), path / "rows.parquet")
    targets = {"size": {"column": "size"}, "tags": {"column": "tags"}}
    return {"name": "parquet", "files": [str(path / "rows.parquet")], "targets": targets}


def tagged(path):
    folder(path)
    return [(str(file), TAGS[n % 4]) for n, file in enumerate(sorted((path / "images").rglob("*.jpg")))]


def digits(path):
    return {"name": "digits", "split": "test"}


def images(path, source=folder, transforms=(), **options):
    crop = [{"name": "RandomResizedCrop", "size": 8}, {"name": "RandomHorizontalFlip"}, {"name": "ToTensor"}]
    return build_dataset(
        {
            **source(path),
            "batchsize_per_replica": 4,
            "use_shuffle": True,
            "transforms": [
                {"name": "apply_transform_to_key", "key": "input", "transforms": [*transforms, *crop]},
            ],
            **options,
        }
    )


def feed_of(ray_cluster, way="cluster", memory=None, world_size=1, held=2.0):
    here = ray_cluster.get_runtime_context().get_node_id()
    return ClusterFeed(way, memory, world_size, lambda: room_beside({here: held}))


def batches(dataset, plan, feed=None):
    """The batches of a plan, with the shares and the numbers of bad rows after each."""
    dataset.feed = feed
    iterator = iter(PhaseLoader(dataset, plan))
    return [(batch, iterator.share, iterator.bad_rows) for batch in iterator]


def same(one, other):
    return len(one) == len(other) and all(a[1:] == b[1:] and equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return torch.equal(one, other)


@pytest.mark.parametrize("source", [folder, manifest, parquet, large_parquet, webdataset, digits])
def test_the_cluster_makes_the_batches_of_a_worker_bit_by_bit(ray_cluster, tmp_path, source):
    dataset = images(tmp_path, source)
    for ranks in (1, 2, 3):
        for rank in range(ranks):
            plan = PhasePlan(len(dataset), 4, ranks, rank, train=True, shuffle=True, seed=3, epoch=2)
            assert same(batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster, world_size=ranks)))


@pytest.mark.full
@pytest.mark.parametrize("source", [listed, separated, columns, several])
def test_rows_with_several_labels_or_targets_are_the_same_bits(ray_cluster, tmp_path, source):
    dataset = images(tmp_path, source)
    plan = PhasePlan(len(dataset), 4, 2, 1, train=True, shuffle=True, seed=3)
    own = batches(dataset, plan)
    assert same(own, batches(dataset, plan, feed_of(ray_cluster, world_size=2)))
    target = own[0][0]["target"]
    labels = target["tags"] if source is several else target
    assert labels.shape[1] == 2 and labels.any()


@pytest.mark.parametrize("train", [True, False])
def test_a_phase_is_resumed_at_its_row(ray_cluster, tmp_path, train):
    dataset = images(tmp_path)
    plan = PhasePlan(ROWS, 4, 2, 1, train=train, shuffle=True, start=5 if train else 0)
    assert same(batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster)))


@pytest.mark.parametrize("source", [folder, parquet])
def test_rows_of_a_split_are_made_as_often_as_they_are_sampled(ray_cluster, tmp_path, source):
    dataset = images(tmp_path, source, sampling={"name": "balanced", "rows": 26})
    dataset = Split(test=0.4, seed=1).take(dataset, "train")
    plan = dataset.plan("train", 1, seed=5, start=8)
    here = batches(dataset, plan)
    same(batches(dataset, dataset.plan("train", 1, seed=5, start=8), feed_of(ray_cluster)), here)
    numbers = dataset.plan("train", 1, seed=5).order
    assert np.bincount(dataset.labels()[numbers % len(dataset)]).tolist() == [13, 13]


def test_rows_of_a_map_style_dataset_are_made_too(ray_cluster):
    dataset = vectors(10, shuffle=True)
    plan = PhasePlan(10, 4, train=True, shuffle=True)
    assert same(batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster)))


def test_bad_rows_are_skipped_and_counted_alike(ray_cluster, tmp_path):
    dataset = images(tmp_path, max_bad_rows=2)
    (tmp_path / "images" / "a" / "2.jpg").write_bytes(b"no image")
    plan = PhasePlan(ROWS, 4, train=True)
    own, made = batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster))
    assert same(own, made) and made[-1][2] == 1


def test_an_error_is_that_of_a_worker(ray_cluster, tmp_path):
    dataset = images(tmp_path)
    (tmp_path / "images" / "a" / "2.jpg").write_bytes(b"no image")
    errors = []
    for feed in (None, feed_of(ray_cluster)):
        with pytest.raises(DataError) as error:
            batches(dataset, PhasePlan(ROWS, 4), feed)
        errors.append(str(error.value))
    assert errors[0] == errors[1] and "2.jpg" in errors[0]


class InTasks:
    """Does something once, to the first row that another process than this one makes."""

    def __init__(self, path, what):
        self.path, self.what, self.process = path, what, os.getpid()

    def __call__(self, sample):
        if os.getpid() != self.process:
            try:
                self.path.touch(exist_ok=False)
            except FileExistsError:
                return sample
            self.what()
        return sample


def die():
    os._exit(1)


class Waits:
    """Waits for a file, up to a minute."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        until = time.monotonic() + 60
        while not self.path.exists() and time.monotonic() < until:
            time.sleep(0.05)


def test_a_process_that_dies_costs_nothing(ray_cluster, tmp_path):
    dataset, plan = vectors(12, transform=InTasks(tmp_path / "died", die)), PhasePlan(12, 4, train=True)
    assert same(batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster)))
    assert (tmp_path / "died").exists()


def test_a_late_batch_is_made_by_the_worker(ray_cluster, tmp_path, monkeypatch, caplog):
    late = InTasks(tmp_path / "late", Waits(tmp_path / "go"))
    dataset, plan = vectors(40, transform=late), PhasePlan(40, 4, train=True)
    own = batches(dataset, plan)
    monkeypatch.setattr(ray_window, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(ray_window, "FIRST_SECONDS", 5.0)
    with caplog.at_level("INFO"):
        assert same(own, batches(dataset, plan, feed_of(ray_cluster)))
    (tmp_path / "go").touch()
    assert (tmp_path / "late").exists() and "this worker makes it" in caplog.text


def test_a_cluster_that_makes_no_batches_is_given_up(ray_cluster, monkeypatch, caplog):
    dataset, plan = vectors(40), PhasePlan(40, 4, train=True)
    feed = feed_of(ray_cluster)
    monkeypatch.setattr(ray_window, "FIRST_SECONDS", 0.0)
    with caplog.at_level("INFO"):
        assert same(batches(dataset, plan), batches(dataset, plan, feed))
    assert "the cluster makes no batches now" in caplog.text


def test_a_batch_is_not_waited_for_once_no_cpu_is_left(ray_cluster, monkeypatch, caplog):
    """Its node was lost in the moment before the task was started."""
    monkeypatch.setattr(ray_feed, "_SECONDS_BETWEEN_LOOKS", 2.0)
    dataset, plan = vectors(10), PhasePlan(10, 4)
    [here] = [node["NodeID"] for node in ray_cluster.nodes() if node["Alive"]]
    began = time.monotonic()

    def room():
        left = 2 if time.monotonic() - began < 1.0 else 0
        return replace(room_beside({here: 2.0}), slots=left, free=left, avoid=(here,))

    with caplog.at_level("INFO"):
        assert same(batches(dataset, plan), batches(dataset, plan, ClusterFeed("cluster", None, 1, room)))
    assert time.monotonic() - began < 20 and "no CPU that makes batches is left" in caplog.text


def test_without_a_free_cpu_the_worker_makes_its_batches(ray_cluster, monkeypatch, caplog):
    monkeypatch.setattr(ray_feed, "_SETTLE_SECONDS", 0.0)
    dataset, plan = vectors(10), PhasePlan(10, 4)
    with caplog.at_level("INFO"):
        assert same(batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster, held=4.0)))
    assert "no CPU is free beside them" in caplog.text


def test_little_memory_throttles_and_says_so(ray_cluster, caplog):
    dataset, plan = vectors(40), PhasePlan(40, 4, train=True)
    with caplog.at_level("INFO"):
        assert same(batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster, memory=150)))
    assert (
        "150 B of shared memory for each worker are enough for 1 x 160 B" in caplog.text
        and "ray.ingest_memory" in caplog.text
    )


def test_auto_leaves_one_node_to_its_workers(ray_cluster, tmp_path, caplog):
    dataset = vectors(12, transform=InTasks(tmp_path / "made elsewhere", die))
    with caplog.at_level("INFO"):
        batches(dataset, PhasePlan(12, 4), feed_of(ray_cluster, "auto"))
    assert not (tmp_path / "made elsewhere").exists() and not caplog.text


@pytest.mark.parametrize(("seconds", "moves"), [(0.05, True), (0.0, False)])
def test_auto_moves_to_other_nodes_if_training_waits(ray_cluster, monkeypatch, caplog, seconds, moves):
    monkeypatch.setattr(ray_feed, "_TRIED_BATCHES", 3)
    monkeypatch.setattr(ray_feed, "_TRIED_SECONDS", 0.2)
    here = ray_cluster.get_runtime_context().get_node_id()
    feed = ClusterFeed("auto", None, 1, lambda: replace(room_beside({here: 2.0}), apart=True))
    dataset, plan = vectors(48, transform=Slow(seconds)), PhasePlan(48, 4, train=True)
    own = batches(dataset, plan)
    dataset.feed = feed
    made = []
    with caplog.at_level("INFO"):
        iterator = iter(PhaseLoader(dataset, plan))
        for batch in iterator:
            made.append((batch, iterator.share, iterator.bad_rows))
            time.sleep(0.1)
    assert same(own, made) and ("other CPUs make them from now on" in caplog.text) is moves


class Slow:
    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, sample):
        time.sleep(self.seconds)
        return sample


def test_an_iterator_that_is_dropped_leaves_no_tasks(ray_cluster, tmp_path):
    dataset = vectors(400, transform=Slow(0.05))
    dataset.feed = feed_of(ray_cluster)
    iterator = iter(PhaseLoader(dataset, PhasePlan(400, 4)))
    next(iterator)
    iterator.batches.close()
    began = time.monotonic()
    while ray_cluster.available_resources().get("CPU") != 4:
        assert time.monotonic() - began < 30
        time.sleep(0.1)


def test_ways_may_differ_by_phase(ray_cluster):
    feeding = Feeding({"train": "worker", "test": "auto"}, None, 1)
    assert feeding.feed("train", vectors(4), 1) is None


def test_loading_processes_make_what_the_cluster_does_not(ray_cluster, monkeypatch):
    dataset, plan = vectors(40, num_workers=2), PhasePlan(40, 4, train=True, shuffle=True)
    own = batches(dataset, plan)
    monkeypatch.setattr(ray_window, "FIRST_SECONDS", 0.0)
    dataset.feed = feed_of(ray_cluster)
    iterator = iter(PhaseLoader(dataset, plan, num_workers=2))
    made = [(batch, iterator.share, iterator.bad_rows) for batch in iterator]
    assert same(own, made)


def test_a_dataset_that_does_not_pickle_is_left_to_the_worker(ray_cluster, caplog):
    dataset, plan = vectors(10), PhasePlan(10, 4)
    own = batches(dataset, plan)
    dataset.lock = threading.Lock()
    with caplog.at_level("INFO"):
        assert same(own, batches(dataset, plan, feed_of(ray_cluster)))
    assert "cannot be sent to other processes" in caplog.text


def test_rows_that_other_nodes_cannot_read_are_read_by_the_worker(ray_cluster, tmp_path):
    dataset, plan = vectors(10, transform=InTasks(tmp_path / "failed", fail)), PhasePlan(10, 4, train=True)
    assert same(batches(dataset, plan), batches(dataset, plan, feed_of(ray_cluster)))
    assert (tmp_path / "failed").exists()


def fail():
    raise DataError("no such file on this node")


@pytest.fixture(autouse=True)
def lines_are_logged_again():
    ray_feed._say.cache_clear()
