import io
import json
import os
import pickle
import sys
import tarfile
import tracemalloc

import pytest
import torch
from PIL import Image

from ray_classy.dataset import WebDatasetDataset, build_dataset
from ray_classy.dataset.split import Split
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import config_keys
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer

COMMON = {"name": "webdataset", "batchsize_per_replica": 2, "use_shuffle": False}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def encoded(kind="png", size=(8, 9), mode="RGB", colour=0):
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format={"jpg": "jpeg"}.get(kind, kind))
    return buffer.getvalue()


def shard(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def samples(*labels, start=0, kind="png"):
    """Members of samples whose images are as wide as their number and ten."""
    for number, label in enumerate(labels, start):
        yield f"{number:04d}.{kind}", encoded(kind, (10 + number, 9))
        yield f"{number:04d}.cls", str(label).encode()


def dataset(shards, **arguments):
    return WebDatasetDataset(2, False, shards=shards, **arguments)


def test_images_and_labels(tmp_path):
    data = dataset(shard(tmp_path / "a.tar", samples(2, 0, 1)))
    assert [data[i]["target"] for i in (2, 0, 1)] == [1, 2, 0] and data.labels().tolist() == [2, 0, 1]
    assert [data[i]["input"].width for i in (2, 0, 1)] == [12, 10, 11] and data.classes is None


def test_shards_without_an_end_mark_are_remarked(tmp_path):
    for name in "abcde":
        with open(shard(tmp_path / f"{name}.tar", samples(2, 0)), "r+b") as file:
            file.truncate(4096)
    remarks = [dataset(str(tmp_path)).remarks for _ in range(2)]
    assert [len(one) for one in remarks] == [4, 4] and "a.tar has no end mark" in remarks[0][0]
    assert remarks[0][3] == "so it is with 2 more shards"


def test_mixed_formats_sizes_and_modes(tmp_path):
    kinds = [("jpg", "CMYK"), ("jpeg", "L"), ("PNG", "P"), ("webp", "RGBA")]
    members = []
    for number, (kind, mode) in enumerate(kinds):
        members += [(f"{number}.{kind}", encoded(kind.lower(), (5 + number, 4), mode)), (f"{number}.cls", b"0\n")]
    data = dataset(shard(tmp_path / "a.tar", members))
    assert [(data[i]["input"].mode, data[i]["input"].width) for i in range(4)] == [("RGB", 5 + i) for i in range(4)]


def test_keys_are_folder_and_name_up_to_the_first_dot(tmp_path):
    members = [("./x/1.png", encoded()), ("y/1.png", encoded()), ("./x/1.left.png", b""), ("./x/1.cls", b"3")]
    data = dataset(shard(tmp_path / "a.tar", [*members, ("y/1.cls", b"4")]))
    assert data.labels().tolist() == [3, 4]


def test_the_first_extension_listed_is_the_image(tmp_path):
    members = [("0.png", encoded(size=(3, 3))), ("0.mask.png", b""), ("0.jpg", encoded("jpg")), ("0.cls", b"0")]
    path = shard(tmp_path / "a.tar", members)
    assert dataset(path)[0]["input"].width == 8
    assert dataset(path, image_extensions=[".PNG"])[0]["input"].width == 3


def test_hidden_members_and_folders_are_passed_over(tmp_path):
    path = shard(tmp_path / "a.tar", [("._0.png", b""), ("__meta__.json", b"{}"), *samples(0)])
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert len(dataset(path)) == 1


def test_long_names(tmp_path):
    name = "folder/" * 20 + "n" * 150
    data = dataset(shard(tmp_path / "a.tar", [(f"{name}.png", encoded()), (f"{name}.cls", b"1")]))
    assert data[0]["target"] == 1


def test_names_are_sorted_over_all_shards(tmp_path):
    shards = [shard(tmp_path / "a.tar", samples("dog", "cat")), shard(tmp_path / "b.tar", samples("ant"))]
    data = dataset(shards)
    assert data.classes == ["ant", "cat", "dog"] and data.labels().tolist() == [2, 1, 0]


def test_names_in_the_order_given(tmp_path):
    assert dataset(shard(tmp_path / "a.tar", samples("b", "a")), classes=["b", "a"]).labels().tolist() == [0, 1]


@pytest.mark.parametrize(("labels", "targets"), [((3, 1), [3, 1]), (("dog", "cat"), [1, 0]), (("1", "0"), [1, 0])])
def test_labels_in_json(tmp_path, labels, targets):
    members = []
    for number, label in enumerate(labels):
        members += [(f"{number}.png", encoded()), (f"{number}.json", json.dumps({"y": label, "more": []}).encode())]
    data = dataset(shard(tmp_path / "a.tar", members), label_extension="json", label_field="y")
    assert data.labels().tolist() == targets and (data.classes is None) == isinstance(labels[0], int)


def test_no_labels(tmp_path):
    data = dataset(shard(tmp_path / "a.tar", [("0.png", encoded())]), label_extension=None)
    assert set(data[0]) == {"input"} and data.labels() is None


@pytest.mark.parametrize("form", ["{0}", "{0}/*.tar", ["{0}/s-0.tar", "{0}/s-1.tar"], "{0}/s-{{0..1}}.tar"])
def test_several_shards_in_order(tmp_path, form):
    for number in range(2):
        shard(tmp_path / f"s-{number}.tar", samples(2 * number, 2 * number + 1))
    shards = form.format(tmp_path) if isinstance(form, str) else [name.format(tmp_path) for name in form]
    data = dataset(shards)
    assert [data[i]["target"] for i in range(4)] == [0, 1, 2, 3]


def test_empty_shard_beside_others(tmp_path):
    assert len(dataset([shard(tmp_path / "a.tar", []), shard(tmp_path / "b.tar", samples("cat"))])) == 1


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shard(tmp_path / "a.tar", samples(0))
    assert len(dataset("~/a.tar")) == 1


def test_config_defaults_to_the_imagenet_transform(tmp_path):
    data = build_dataset({**COMMON, "shards": shard(tmp_path / "a.tar", samples(1, 0))})
    batch = next(iter(data.iterator()))
    assert batch["input"].shape == (2, 3, 224, 224) and batch["target"].tolist() == [1, 0]


def test_config_with_own_extensions(tmp_path):
    path = shard(tmp_path / "a.tar", [("0.bmp", encoded("bmp")), ("0.txt", b"cat")])
    config = {**COMMON, "shards": [path], "image_extensions": ["bmp"], "label_extension": "txt", "image_mode": "L"}
    assert build_dataset(config)[0]["input"].shape == (1, 9, 8)


def test_batches_from_worker_processes(tmp_path):
    data = build_dataset({**COMMON, "shards": shard(tmp_path / "a.tar", samples(2, 0, 1)), "num_workers": 1})
    data[0]  # the shard is open in this process
    assert torch.cat([batch["target"] for batch in data.iterator()]).tolist() == [2, 0, 1]


def test_pickled_copy_opens_its_own_files(tmp_path):
    data = dataset(shard(tmp_path / "a.tar", samples(2, 0)))
    data[0]
    assert pickle.loads(pickle.dumps(data))[0]["target"] == 2


def test_only_the_rows_that_are_asked_for_are_decoded(tmp_path):
    members = [("0.png", b"damaged"), ("0.cls", b"0"), *samples(1, start=1)]
    assert dataset(shard(tmp_path / "a.tar", members))[1]["target"] == 1


def test_many_samples_are_no_python_objects(tmp_path):
    rows = 5_000
    path = shard(tmp_path / "a.tar", (m for i in range(rows) for m in ((f"{i}.png", b"x"), (f"{i}.cls", b"cat"))))
    dataset(path)
    blocks = sys.getallocatedblocks()
    tracemalloc.start()
    data = dataset(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data) == rows and sys.getallocatedblocks() - blocks < 1_000 and peak < 50 * rows


def test_nothing_is_written_beside_the_shards(tmp_path):
    dataset(shard(tmp_path / "a.tar", samples(0)))
    assert os.listdir(tmp_path) == ["a.tar"]


def test_trains(tmp_path):
    shape = [{"name": "Resize", "size": [4, 4]}, {"name": "ToTensor"}]
    common = {**COMMON, "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": shape}]}
    train = [*samples("cat", "dog", "cat"), *samples("dog", start=3, kind="jpg")]
    config = {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {
            "train": {**common, "shards": shard(tmp_path / "train.tar", train), "use_shuffle": True},
            "test": {**common, "shards": shard(tmp_path / "test.tar", samples("dog", "cat", kind="webp"))},
        },
        "model": {"name": "mlp", "input_dim": 48, "output_dim": 2, "hidden_dims": [4]},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "lr": 0.1},
    }
    result = LocalTrainer(storage_path=str(tmp_path / "runs")).train(build_task(config))
    assert 0 <= result.metrics["test"]["accuracy"]["top_1"] <= 1


def test_a_compressed_shard_in_a_folder_is_not_passed_over(tmp_path):
    shard(tmp_path / "a.tar", samples(0))
    shard(tmp_path / "b.tar.gz", samples(1), "w:gz")
    with pytest.raises(DataError, match=r"b\.tar\.gz is compressed \(gzip\)"):
        dataset(tmp_path)


def test_missing_shard_of_a_range(tmp_path):
    shard(tmp_path / "s-00.tar", samples(0))
    with pytest.raises(DataError, match=r"no \.tar file at '.*s-01\.tar'"):
        dataset(f"{tmp_path}/s-{{00..01}}.tar")


def test_pipes_are_refused():
    with pytest.raises(ComponentError, match="read by offset, not from 'pipe:cat"):
        dataset("pipe:cat a.tar")


@pytest.mark.parametrize("shards", ["", []])
def test_no_shard_is_given(shards):
    with pytest.raises(ComponentError, match="shards must be a path"):
        dataset(shards)


@pytest.mark.parametrize(
    "arguments",
    [{"label_extension": "json"}, {"label_field": "y"}, {"image_extensions": []}, {"image_extensions": "jpg"}],
)
def test_impossible_arguments(arguments):
    with pytest.raises(ComponentError, match=next(iter(arguments))):
        dataset("a.tar", **arguments)


def test_unknown_mode(tmp_path):
    with pytest.raises(ComponentError, match="image_mode"):
        dataset(shard(tmp_path / "a.tar", samples(0)), image_mode="CMYK")


def test_no_samples(tmp_path):
    with pytest.raises(DataError, match=r"no samples in .*a\.tar"):
        dataset(shard(tmp_path / "a.tar", []))


def test_labels_of_mixed_types(tmp_path):
    with pytest.raises(DataError, match=r"mixed types.*a\.tar, 0000\.png has '1'.*0001\.png has 'cat'"):
        dataset(shard(tmp_path / "a.tar", samples(1, "cat")))


def test_label_that_is_not_a_class(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar, 0001\.png: label 'cta' is not among the classes: did you mean 'cat'"):
        dataset(shard(tmp_path / "a.tar", samples("cat", "cta")), classes=["cat", "dog"])


def test_damaged_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar, 0\.png: not an image"):
        dataset(shard(tmp_path / "a.tar", [("0.png", b"oops"), ("0.cls", b"0")]))[0]


def test_shard_that_was_removed(tmp_path):
    data = dataset(shard(tmp_path / "a.tar", samples(0)))
    os.remove(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"a\.tar' was removed since"):
        data[0]


def test_shard_that_was_cut_afterwards(tmp_path):
    data = dataset(shard(tmp_path / "a.tar", samples(0)))
    os.truncate(tmp_path / "a.tar", 520)
    with pytest.raises(DataError, match=r"a\.tar' was changed since the run began: it had 10240 bytes"):
        data[0]


def test_keys_of_the_config():
    keys = config_keys(WebDatasetDataset)
    own = {"shards", "image_extensions", "label_extension", "label_field", "classes", "image_mode", "max_bad_rows"} | {
        "max_pixels",
        "background",
        "value_range",
    }
    assert own <= set(keys)


def test_shards_of_a_store_are_read_as_those_of_a_disk(tmp_path, s3):
    for number in range(3):
        shard(tmp_path / f"{number}.tar", samples("a", "b", start=2 * number))
    s3.copy(tmp_path, "data")
    for pattern in ("", "/*.tar", "/{0..2}.tar"):
        here, there = dataset(f"{tmp_path}{pattern}"), dataset(s3.url(f"data{pattern}"))
        assert there.labels().tolist() == here.labels().tolist() == [0, 1] * 3
        assert all(there[i]["input"].tobytes() == here[i]["input"].tobytes() for i in range(6))
    assert pickle.loads(pickle.dumps(there))[5]["input"].size == (15, 9)


def test_a_shard_of_a_store_is_scanned_once_and_then_read_by_range(tmp_path, s3, monkeypatch):
    url = s3.copy(shard(tmp_path / "a.tar", samples(*range(50))), "a.tar")
    first = dataset(url)
    s3.filesystem.delete_file(f"{s3.name}/a.tar")
    with pytest.raises(DataError, match=r"no \.tar file at"):
        dataset(url)
    s3.copy(tmp_path / "a.tar", "a.tar")
    first.dataset.sources.stamps[url] = dataset(url).dataset.sources.stamps[url]
    assert first[49]["input"].width == 59


@pytest.mark.parametrize("change", ["replaced", "removed", "cut"])
@pytest.mark.parametrize("place", ["path", "url"])
def test_a_shard_that_changes_is_never_read(tmp_path, s3, change, place):
    path = tmp_path / "a.tar"
    shard(path, samples(*range(40)))
    data = dataset(str(path) if place == "path" else s3.copy(path, "a.tar"))
    data.transform = lambda sample: {"target": sample["target"]}
    batches = iter(data.iterator())
    next(batches)
    if change == "removed":
        path.unlink() if place == "path" else s3.remove("a.tar")
    else:
        shard(path, samples(*range(39), 7)) if change == "replaced" else os.truncate(path, 5000)
        os.utime(path, (1, 1))
        place == "url" and s3.put("a.tar", path.read_bytes() + b"0" * 512)
    message = r"a\.tar.* was (changed|removed) since the run began|cannot read|ends before"
    with pytest.raises(DataError, match=message):
        list(batches)
    with pytest.raises(DataError, match=r"a\.tar.* was (changed|removed) since the run began"):
        data.iterator()


@pytest.mark.parametrize("bad", [b"no tar file", b""])
def test_damaged_shards_of_a_store(s3, bad):
    with pytest.raises(DataError, match=r"a\.tar.*(cannot be read as a tar file|no samples)|no samples in .*a\.tar"):
        dataset(s3.put("a.tar", bad))


@pytest.mark.parametrize(
    ("extension", "text"), [("cls", "9" * 19), ("cls", "9" * 5000), ("json", '{"y": 9999999999999999999}')]
)
def test_labels_that_are_too_large(tmp_path, extension, text):
    tar = shard(tmp_path / "a.tar", [("1.png", encoded()), (f"1.{extension}", text.encode())])
    keys = {"label_extension": extension, "label_field": "y"} if extension == "json" else {}
    with pytest.raises(DataError, match=r"a\.tar.*too large for a class index"):
        dataset(tar, **keys)


def test_samples_keep_their_side_of_a_split_when_shards_are_added_or_moved(tmp_path):
    def test_keys(folder):
        dataset = WebDatasetDataset(2, False, shards=str(folder))
        keys = dataset.row_keys()
        test = Split(test=0.4).test_rows(keys)
        rows = dataset.dataset.take(range(len(dataset)))
        return {(os.path.basename(row["path"]), row["member"]): side for row, side in zip(rows, test, strict=True)}

    (tmp_path / "one").mkdir()
    shard(tmp_path / "one" / "b.tar", samples(*[0, 1] * 10))
    before = test_keys(tmp_path / "one")
    assert 0 < sum(before.values()) < 20
    shard(tmp_path / "one" / "a.tar", samples(*[0, 1] * 10))
    (tmp_path / "one").rename(tmp_path / "two")
    after = test_keys(tmp_path / "two")
    assert len(after) == 40 and {key: after[key] for key in before} == before
