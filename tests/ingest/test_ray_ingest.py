"""Datasets in Ray Data's hands, on the shared cluster."""

import io
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.parquet_rows import ParquetRows
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.transforms import build_transforms
from ray_classy.distributed import is_primary
from ray_classy.errors import DataError
from ray_classy.ingest import ray_ingest
from ray_classy.ingest.store_memory import disk_bytes, shared_bytes
from ray_classy.meters import AccuracyMeter
from ray_classy.optim import SGD
from ray_classy.tasks import ClassificationTask, build_task
from ray_classy.trainer import LocalTrainer, RayTrainer
from tests.helpers import RecordingHook

pytestmark = pytest.mark.ray


def scaling(workers=2):
    from ray.train import ScalingConfig

    return ScalingConfig(num_workers=workers)


def image_folder(folder, classes=("cat", "dog"), each=6):
    """Images of mixed sizes and modes, a colour per class."""
    for number, name in enumerate(classes):
        os.makedirs(folder / name)
        for index in range(each):
            mode = ("RGB", "L", "P", "RGBA", "CMYK", "1")[index % 6]
            image = Image.new("RGB", (20 + index, 30 - index), (200 * number, 100, 255 - 200 * number)).convert(mode)
            image.save(folder / name / f"{index}.{'jpg' if mode in ('RGB', 'L', 'CMYK') else 'png'}")
    return str(folder)


def folder_config(train, test, **dataset):
    shape = [{"name": "Resize", "size": [16, 16]}, {"name": "ToTensor"}]
    common = {
        "name": "image_path",
        "batchsize_per_replica": 4,
        "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": shape}],
        **dataset,
    }
    return {
        "name": "classification_task",
        "num_epochs": 2,
        "dataset": {
            "train": {**common, "image_folder": train, "use_shuffle": True},
            "test": {**common, "image_folder": test, "use_shuffle": False},
        },
        "model": {"name": "mlp", "input_dim": 768, "output_dim": 2, "hidden_dims": [8]},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "lr": 0.05},
    }


def write_numbers(folder, files=3):
    paths = []
    for number in range(files):
        labels = range(50 * number, 50 * number + 50)
        table = pa.table({"image": [bytes([label]) for label in labels], "label": list(labels)})
        paths.append(str(folder / f"{number}.parquet"))
        pq.write_table(table, paths[-1], row_group_size=7)
    return paths


def test_rows_read_by_ray_data_are_the_files_rows_in_order(ray_cluster, tmp_path):
    dataset = ClassyDataset(RowDataset(ParquetRows(write_numbers(tmp_path), ["image", "label"]), dict), 4, True)
    rows = ray_ingest.shared_source(dataset).rows()
    assert len(rows) == 150
    assert [row["label"] for row in rows.take(range(150))] == list(range(150))
    assert rows.take([57])[0]["image"] == bytes([57])


def test_large_parquet_files_are_left_to_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("ray_classy.dataset.parquet_rows.IN_MEMORY_BYTES", 0)
    dataset = ClassyDataset(RowDataset(ParquetRows(write_numbers(tmp_path), ["image", "label"]), dict), 4, True)
    assert ray_ingest.shared_source(dataset) is None and shared_bytes(dataset) == 0
    assert disk_bytes(dataset) == sum(path.stat().st_size for path in tmp_path.glob("*.parquet"))


def test_an_image_folder_of_mixed_sizes_and_modes_trains_on_two_workers(ray_cluster, tmp_path):
    train, test = image_folder(tmp_path / "train"), image_folder(tmp_path / "test", each=3)
    result = RayTrainer(scaling(), storage_path=str(tmp_path / "runs")).train(build_task(folder_config(train, test)))
    local = LocalTrainer(str(tmp_path / "local"))
    config = {**folder_config(train, test), "test_only": True, "num_epochs": 1, "checkpoint": result.checkpoint}
    alone = local.train(build_task(config)).metrics["test"]
    assert alone["accuracy"] == result.metrics["test"]["accuracy"]
    assert alone["loss"] == pytest.approx(result.metrics["test"]["loss"], rel=1e-6)


def packed(folder, name):
    """The images of an image folder as a dataset of another kind."""
    files = sorted(os.path.join(root, file) for root, _, files in os.walk(folder) for file in files)
    labels = [os.path.basename(os.path.dirname(file)) for file in files]
    if name == "manifest":
        lines = [f"{os.path.relpath(file, folder)},{label}\n" for file, label in zip(files, labels, strict=True)]
        with open(os.path.join(folder, "m.csv"), "w") as manifest:
            manifest.writelines(["path,label\n", *lines])
        return {"manifest": manifest.name}
    with tarfile.open(f"{folder}.tar", "w") as tar:
        for number, (file, label) in enumerate(zip(files, labels, strict=True)):
            tar.add(file, f"{number}{os.path.splitext(file)[1]}")
            content = tarfile.TarInfo(f"{number}.cls")
            content.size = len(label)
            tar.addfile(content, io.BytesIO(label.encode()))
    return {"shards": tar.name}


OTHERS = ["manifest", "webdataset"]


@pytest.mark.full
def test_a_balanced_side_of_a_folder_trains_on_two_workers_as_in_one_process(ray_cluster, tmp_path):
    config = folder_config(image_folder(tmp_path / "images", each=30), None)
    config["dataset"]["train"]["sampling"] = {"name": "balanced", "rows": 36}
    config["dataset"] = {**config["dataset"], "split": {"test": 0.3, "stratify": True}}
    config["dataset"]["test"] = {"transforms": config["dataset"]["train"]["transforms"]}
    task = build_task(config)
    for dataset in task.datasets.values():
        dataset.batchsize_per_replica = 2
    ray_run = RayTrainer(scaling(), storage_path=str(tmp_path / "ray"), ingest="cluster").train(task)
    local = LocalTrainer(str(tmp_path / "local")).train(build_task(config))
    for phase in ("train", "test"):
        assert ray_run.metrics[phase]["loss"] == pytest.approx(local.metrics[phase]["loss"], rel=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("name", OTHERS)
def test_references_to_images_train_on_two_workers_as_an_image_folder_does(ray_cluster, tmp_path, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = image_folder(tmp_path / "train")
    config = folder_config(folder, folder)
    want = LocalTrainer(str(tmp_path / "local")).train(build_task({**config, "test_only": True, "num_epochs": 1}))
    source = packed(folder, name)
    for phase in config["dataset"].values():
        del phase["image_folder"]
        phase.update(name=name, num_workers=2, **source)
    trainer = RayTrainer(scaling(), storage_path=str(tmp_path / "runs"))
    result = trainer.train(build_task({**config, "test_only": True, "num_epochs": 1}))
    assert result.metrics["test"]["loss"] == pytest.approx(want.metrics["test"]["loss"], rel=1e-6)


@pytest.mark.full
def test_a_file_that_is_not_an_image_stops_the_run_with_its_path(ray_cluster, tmp_path):
    train = image_folder(tmp_path / "train")
    (tmp_path / "train" / "dog" / "9.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"dog/9\.jpg"):
        RayTrainer(scaling(), storage_path=str(tmp_path / "runs")).train(build_task(folder_config(train, train)))


@pytest.mark.full
def test_files_that_are_not_images_are_skipped_and_counted_if_the_config_says_so(ray_cluster, tmp_path):
    train = image_folder(tmp_path / "train")
    for name in ("7.jpg", "8.jpg", "9.jpg"):
        (tmp_path / "train" / "dog" / name).write_bytes(b"no image")
    config = folder_config(train, train, max_bad_rows=3, num_workers=2)
    result = RayTrainer(scaling(), storage_path=str(tmp_path / "runs")).train(build_task(config))
    assert [line["bad_rows"] for line in result.metrics_history] == [3, 3, 3, 3]


@pytest.mark.full
def test_a_dataset_that_cannot_describe_itself_runs_through_loading_processes(ray_cluster, tmp_path):
    synthetic = {
        "name": "synthetic_image",
        "crop_size": 16,
        "class_ratio": 0.5,
        "num_samples": 37,
        "seed": 0,
        "batchsize_per_replica": 5,
        "num_workers": 1,
        "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}],
    }
    config = folder_config("unused", "unused")
    config["dataset"] = {"train": {**synthetic, "use_shuffle": True}, "test": {**synthetic, "use_shuffle": False}}
    trainer = RayTrainer(scaling(), storage_path=f"file://{tmp_path}/runs")
    result = trainer.train(build_task({**config, "num_epochs": 1}))
    assert (result.metrics["test"]["accuracy"]["top_1"] * 37) % 1 == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["image_path", *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)])
def test_images_of_a_store_train_on_two_workers_as_those_of_a_disk(ray_cluster, tmp_path, s3, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = image_folder(tmp_path / "train")
    config = {**folder_config(folder, folder), "num_epochs": 1}
    want = LocalTrainer(str(tmp_path / "local")).train(build_task(config)).metrics
    if name != "image_path":
        ((key, file),) = packed(folder, name).items()
        for phase in config["dataset"].values():
            del phase["image_folder"]
            phase.update({"name": name, key: s3.copy(file, f"pets/{os.path.basename(file)}")})
    root = s3.copy(folder, "pets")
    for phase in config["dataset"].values():
        phase.update({"image_folder": root} if name == "image_path" else {}, batchsize_per_replica=2, num_workers=2)
    got = RayTrainer(scaling(), storage_path=str(tmp_path / "runs")).train(build_task(config)).metrics
    assert got["train"]["loss"] == pytest.approx(want["train"]["loss"], rel=1e-5)
    assert got["test"]["loss"] == pytest.approx(want["test"]["loss"], rel=1e-5)


@pytest.mark.parametrize("large", [False, True])
def test_parquet_files_of_a_store_are_read_in_order(ray_cluster, tmp_path, s3, monkeypatch, large):
    monkeypatch.setenv("RAY_CLASSY_CACHE", str(tmp_path / "cache"))
    write_numbers(tmp_path)
    s3.copy(tmp_path, "data")
    if large:
        monkeypatch.setattr("ray_classy.dataset.parquet_rows.IN_MEMORY_BYTES", 0)
    rows = ParquetRows([s3.url(f"data/{number}.parquet") for number in range(3)], ["image", "label"])
    if not large:
        dataset = ClassyDataset(RowDataset(rows, dict), 4, True)
        rows = ray_ingest.shared_source(dataset).rows()
    assert [row["label"] for row in rows.take(range(150))] == list(range(150))


class Swap(RecordingHook):
    """Replaces a file after the first train phase."""

    def __init__(self, path, content):
        super().__init__()
        self.path, self.content = path, content

    def on_phase_end(self, task):
        if task.train and is_primary():
            with open(self.path, "wb") as file:
                file.write(self.content)


@pytest.mark.full
def test_a_shard_that_is_replaced_under_a_run_stops_it(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = image_folder(tmp_path / "train")
    config = folder_config(folder, folder)
    source = packed(folder, "webdataset")
    for phase in config["dataset"].values():
        del phase["image_folder"]
        phase.update(name="webdataset", **source)
    task = build_task(config).set_hooks([Swap(source["shards"], b"x" * 20000)])
    with pytest.raises(DataError, match=r"train\.tar' was changed since the run began: it had .* bytes"):
        RayTrainer(scaling(), storage_path=str(tmp_path / "runs")).train(task)


def fake_task(batch):
    images = FakeData(size=21, image_size=(3, 8, 8), num_classes=3, transform=v2.Compose([v2.ToImage(), SCALE]))
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    task = ClassificationTask().set_num_epochs(2).set_model(model).set_loss(nn.CrossEntropyLoss())
    for phase_type in ("train", "test"):
        transform = build_transforms([{"name": "tuple_to_map", "list_of_map_keys": ["input", "target"]}])
        task.set_dataset(ClassyDataset(images, batch, phase_type == "train", transform), phase_type)
    return task.set_optimizer(SGD(lr=0.1)).set_meters([AccuracyMeter([1])])


SCALE = v2.ToDtype(torch.float32, scale=True)


@pytest.mark.full
def test_a_dataset_of_torchvision_trains_on_two_workers_as_in_one_process(ray_cluster, tmp_path):
    got = RayTrainer(scaling(), storage_path=str(tmp_path / "runs")).train(fake_task(2)).metrics
    want = LocalTrainer(str(tmp_path / "local")).train(fake_task(4)).metrics
    for phase in ("train", "test"):
        assert got[phase]["loss"] == pytest.approx(want[phase]["loss"], rel=1e-5)
        assert got[phase]["accuracy"] == want[phase]["accuracy"]


def test_datasets_of_a_process_of_rays_read_with_its_cpus():
    from ray_classy.dataset import build_dataset
    from ray_classy.ingest.ray_ingest import read_with_own_cpus
    from tests.helpers import make_task

    task = make_task(test=None)
    digits = {"name": "digits", "split": "test", "batchsize_per_replica": 8, "use_shuffle": False}
    task.set_dataset(build_dataset(digits), "test")
    read_with_own_cpus(task, 3)
    assert task.datasets["test"].dataset.threads == 3
