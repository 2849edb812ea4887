"""Pipelines that run beside the training, on the shared cluster."""

import io
import logging
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.transforms import ApplyTransformToKey, build_transform
from ray_classy.errors import ComponentError, DataError, ResourceError, RunError
from ray_classy.meters import AccuracyMeter
from ray_classy.optim import SGD
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer import LocalTrainer, RayTrainer
from tests.helpers import actors_titled

pytestmark = pytest.mark.ray

ROWS = 23


def png(number):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (10 * number, 0, 255 - 10 * number)).save(buffer, "PNG")
    return buffer.getvalue()


def numbered(row):
    return {"id": row["id"], "image": png(row["id"]), "label": row["id"] % 2}


def pipeline(blocks=5, rows=ROWS):
    import ray.data

    return ray.data.range(rows, override_num_blocks=blocks)


def made(dataset, batch=4, shuffle=False, **arguments):
    from ray_classy.ingest import RayDataset

    transform = ApplyTransformToKey(build_transform({"name": "ToTensor"}), key="input")
    return RayDataset(dataset, batch, shuffle, transform, stream=True, **arguments)


def stream(dataset, rows=ROWS, **options):
    """Rows for ranks; each read by `epoch`."""
    from ray_classy.ingest.ray_stream import Stream

    return Stream(dataset, rows, ["id"], options.get("id_column"), lambda table: None)


def epoch(ranks, number=0, **options):
    """The ids that all ranks together read in one epoch, each in a thread."""

    def read(rank, rows):
        plan = PhasePlan(len(rows), 3, len(ranks), rank, epoch=number, together=True, **options)
        found = []
        for step, batch in enumerate(rows.followed(plan, plan.batches())):
            found += [row["id"] for row in rows.take(batch[: plan.share(step).rows])]
        return found

    with ThreadPoolExecutor(len(ranks)) as pool:
        return [row for found in pool.map(read, range(len(ranks)), ranks) for row in found]


@pytest.mark.parametrize("world_size", [1, 2, pytest.param(3, marks=pytest.mark.full)])
def test_every_row_is_read_once_per_epoch(ray_cluster, world_size):
    for _ in range(2):  # a restart of all ranks
        shard = stream(pipeline(), id_column="id").shard(world_size)
        ranks = [shard.rows() for _ in range(world_size)]
        for number in range(2):
            assert sorted(epoch(ranks, number, train=True)) == list(range(ROWS))
        assert sorted(epoch(ranks, 0, train=False)) == list(range(ROWS))


@pytest.mark.full
def test_parts_of_an_epoch_are_one_pass(ray_cluster):
    ranks = [stream(pipeline()).shard(1).rows()]
    assert [*epoch(ranks, part=(0, 2), train=True), *epoch(ranks, part=(1, 2), train=True)] == list(range(ROWS))
    assert ranks[0]._passes == 1


def test_training_begins_before_the_pipeline_has_finished(ray_cluster):
    def slow(row):
        time.sleep(0.05)
        return {"id": row["id"], "made": time.time()}

    from ray_classy.ingest.ray_stream import Stream

    rows = Stream(pipeline(12, 60).map(slow), 60, ["id", "made"], None, lambda table: None).shard(1).rows()
    plan = PhasePlan(60, 3, train=True)
    when, last = [], 0.0
    for batch in rows.followed(plan, plan.batches()):
        last = max(row["made"] for row in rows.take(batch))
        when.append(time.time())
    assert when[0] < last and len(when) == 20


@pytest.mark.full
def test_reshuffling_pipelines_draw_as_in_the_epoch_also_after_a_restart(ray_cluster):
    import ray.data

    shuffled = pipeline().random_shuffle(seed=ray.data.RandomSeedConfig(seed=7, reseed_after_execution=True))
    ranks = [stream(shuffled).shard(1).rows()]
    first, second = epoch(ranks, 0, train=True), epoch(ranks, 1, train=True)
    assert first != second and sorted(first) == sorted(second)
    assert epoch([stream(shuffled).shard(1).rows()], 1, train=True) == second


def targets(dataset):
    return [int(target) for batch in dataset.iterator() for target in batch["target"]]


@pytest.mark.full
def test_image_files(ray_cluster, tmp_path):
    import ray.data

    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(6):
            Image.new("RGB", (4, 4), (20 * number, 0, 0)).save(tmp_path / label / f"{number}.png")
    images = ray.data.read_images(str(tmp_path), mode="RGB", include_paths=True)
    data = made(
        images.map(lambda row: {"image": row["image"], "label": row["path"].split("/")[-2]}), classes=["cat", "dog"]
    )
    batches = list(data.iterator())
    assert torch.cat([batch["target"] for batch in batches]).tolist() == [0] * 6 + [1] * 6
    reds = torch.cat([batch["input"][:, 0, 0, 0] for batch in batches]).mul(255).round().int().tolist()
    assert reds == 2 * [20 * number for number in range(6)]


@pytest.mark.full
def test_parquet_files_and_a_filter(ray_cluster, tmp_path):
    import ray.data

    pipeline().map(numbered).write_parquet(str(tmp_path))
    parquet = ray.data.read_parquet(str(tmp_path))
    assert len(made(parquet)) == ROWS  # which Ray knows
    assert sorted(targets(made(parquet.filter(lambda row: row["id"] < 7), num_rows=7))) == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.full
def test_webdataset_shards(ray_cluster, tmp_path):
    import ray.data

    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for number in range(5):
            for name, data in ((f"{number}.png", png(number)), (f"{number}.cls", str(number % 2).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    shards = ray.data.read_webdataset(str(tmp_path / "shard.tar"), decoder=None)
    shards = shards.map(lambda row: {"image": row["png"], "label": int(row["cls"])})
    assert targets(made(shards, num_rows=5)) == [0, 1, 0, 1, 0]


@pytest.mark.full
def test_a_join_before(ray_cluster):
    import ray.data

    pytest.importorskip("polars", reason="Ray joins with it")
    labels = ray.data.from_items([{"id": number, "label": number % 2} for number in range(3, ROWS)])
    images = pipeline().map(lambda row: {"id": row["id"], "image": png(row["id"])})
    joined = made(images.join(labels, join_type="inner", num_partitions=2, on=("id",)), id_column="id", num_rows=20)
    assert sorted(targets(joined)) == [0] * 10 + [1] * 10


@pytest.mark.full
def test_rows_are_counted_where_nobody_knows_them(ray_cluster, caplog):
    odd = pipeline().filter(lambda row: row["id"] % 2 == 1).map(numbered)
    with caplog.at_level(logging.INFO, "ray_classy"):
        assert len(made(odd, shuffle=True)) == 11
    assert "counting the rows" in caplog.text and "use_shuffle has no effect" in caplog.text


def test_wrong_numbers_of_rows(ray_cluster):
    for rows, message in ((ROWS - 1, "more than 22 rows"), (ROWS + 1, "fewer than 24 rows in this pass, only 23")):
        with pytest.raises(RunError, match=message):
            epoch([stream(pipeline(), rows).shard(1).rows()], train=True, drop_last=True)
    with pytest.raises(DataError, match="num_rows is 24, but the Ray Data dataset has 23 rows"):
        made(pipeline(), num_rows=24, image_column="id", label_column=None)


@pytest.mark.full
def test_other_ids_in_another_epoch(ray_cluster):
    def other(row):
        return {"id": int(time.time() * 1e6)}

    ranks = [stream(pipeline().map(other), id_column="id").shard(1).rows()]
    epoch(ranks, train=True)
    with pytest.raises(RunError, match="other ids in column 'id'"):
        epoch(ranks, 1, train=True)


def fails(row):
    if row["id"] == 20:
        raise ValueError("no such row as 20")
    return numbered(row)


def test_failure_of_the_pipeline(ray_cluster):
    data = made(pipeline().map(fails), num_rows=ROWS, max_bad_rows=100)
    with pytest.raises(RunError, match=r"the pipeline of the RayDataset failed: ValueError: no such row as 20"):
        list(data.iterator())


def test_the_process_of_the_pipeline_dies(ray_cluster):
    rows = stream(pipeline()).shard(1)
    ray_cluster.kill(rows.pipeline)
    with pytest.raises(RunError, match="the pipeline of the RayDataset failed"):
        epoch([rows.rows()], train=True)


def test_mistakes(ray_cluster):
    with pytest.raises(ComponentError, match="num_rows an integer of at least 1, not 0"):
        made(pipeline(), num_rows=0)
    with pytest.raises(DataError, match=r"no column 'image': it has id; set image_column"):
        made(pipeline())
    with pytest.raises(DataError, match="no column 'image'"):
        made(pipeline().map(lambda row: {"id": row["id"]}), num_rows=ROWS)[0]
    texts = pipeline().map(lambda row: {**numbered(row), "label": "ab"[row["id"] % 2]})
    with pytest.raises(DataError, match=r"'label' of a streamed RayDataset holds text.*list them in `classes`"):
        made(texts, num_rows=ROWS)[0]
    with pytest.raises(RunError, match="label 'b' is not among the classes"):
        list(made(texts, num_rows=ROWS, classes=["a", "c"]).iterator())
    with pytest.raises(DataError, match="row 5000 of a stream can be read only in its turn"):
        made(pipeline(rows=9000).map(numbered))[5000]


def task(make, batch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    one = ClassificationTask().set_num_epochs(2).set_model(model).set_loss(nn.CrossEntropyLoss())
    for phase_type in ("train", "test"):
        one.set_dataset(make(batch).set_num_workers(1), phase_type)
    return one.set_meters([AccuracyMeter([1])]).set_optimizer(SGD(lr=0.1))


def pixels(number):
    """The image of a row, as `ToTensor` makes it."""
    return np.array([10 * number, 0, 255 - 10 * number], np.float32)[:, None, None].repeat(4, 1).repeat(4, 2) / 255


def wait_until(holds, what):
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.2)


@pytest.mark.full
def test_two_workers_train_on_streams_as_one_process_does(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    streams = task(lambda batch: made(pipeline().map(numbered), batch, num_rows=ROWS, id_column="id"), 2)
    ray_run = RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path / "ray")).train(streams)
    samples = [{"input": torch.tensor(pixels(number)), "target": number % 2} for number in range(ROWS)]
    whole = task(lambda batch: ClassyDataset(samples, batch, False), 4)
    local = LocalTrainer(str(tmp_path / "local")).train(whole)
    for phase in ("train", "test"):
        assert ray_run.metrics[phase]["loss"] == pytest.approx(local.metrics[phase]["loss"], rel=1e-5)
    again = task(lambda batch: made(pipeline().map(numbered), batch, num_rows=ROWS), 4)
    assert LocalTrainer(str(tmp_path / "streamed")).train(again).metrics["test"]["loss"] == pytest.approx(
        local.metrics["test"]["loss"], rel=1e-5
    )


def test_the_processes_of_the_pipelines_end_with_the_run_whoever_has_references_to_them(
    ray_cluster, tmp_path, monkeypatch
):
    from ray.train import ScalingConfig

    from ray_classy.ingest.ray_stream import Stream

    kept, shard = [], Stream.shard
    monkeypatch.setattr(Stream, "shard", lambda *arguments: kept.append(shard(*arguments)) or kept[-1])
    before = set(actors_titled("ray::Pipeline"))  # of what other tests left in the cycles of their errors
    streams = task(lambda batch: made(pipeline().map(numbered), batch, num_rows=ROWS), 2)
    RayTrainer(ScalingConfig(num_workers=1), storage_path=str(tmp_path)).train(streams)
    assert len(kept) == 2
    wait_until(lambda: before.issuperset(actors_titled("ray::Pipeline")), "the pipelines' processes end")


def test_workers_that_leave_the_pipeline_no_cpu(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    streams = task(lambda batch: made(pipeline().map(numbered), batch, num_rows=ROWS), 2)
    with pytest.raises(ResourceError, match=r"4 CPU, of which 4 workers x 1 CPU leave 0; .* train and test dataset"):
        RayTrainer(ScalingConfig(num_workers=4), storage_path=str(tmp_path)).train(streams)
