"""Ray Data datasets that a user made, on the shared cluster."""

import io
import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from torch import nn

from ray_classy.dataset.row_keys import text_keys
from ray_classy.dataset.sampling import BalancedSampling
from ray_classy.dataset.split import Split
from ray_classy.dataset.transforms import ApplyTransformToKey, build_transform
from ray_classy.errors import ComponentError, DataError
from ray_classy.meters import AccuracyMeter
from ray_classy.optim import SGD
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer import LocalTrainer, RayTrainer

pytestmark = pytest.mark.ray

ROWS = 23
ORDER = np.random.default_rng(0).permutation(ROWS)


def png(number):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (10 * number, 0, 255 - 10 * number)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def rows(ray_cluster):
    """A pipeline of several blocks whose rows are out of order."""
    import ray.data

    numbers = ray.data.from_items([{"number": int(number)} for number in ORDER], override_num_blocks=4)
    return numbers.map(
        lambda row: {"id": row["number"], "image": png(row["number"]), "label": "ab"[row["number"] % 2], "other": 1}
    ).materialize()


def made(dataset, batch=4, shuffle=False, **arguments):
    from ray_classy.ingest import RayDataset

    transform = ApplyTransformToKey(build_transform({"name": "ToTensor"}), key="input")
    return RayDataset(dataset, batch, shuffle, transform, **arguments)


def task(dataset):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    one = ClassificationTask().set_num_epochs(2).set_dataset(made(dataset, 4, True, id_column="id"), "train")
    one.set_dataset(made(dataset, 8, id_column="id"), "test").set_model(model).set_loss(nn.CrossEntropyLoss())
    return one.set_meters([AccuracyMeter([1])]).set_optimizer(SGD(lr=0.1))


def test_rows_are_in_the_order_of_their_ids(rows):
    data = made(rows, id_column="id")
    assert len(data) == ROWS and data.classes == ["a", "b"]
    assert data.labels().tolist() == [number % 2 for number in range(ROWS)] == [data[i]["target"] for i in range(ROWS)]
    assert [round(float(data[i]["input"][0, 0, 0] * 255)) for i in range(ROWS)] == [10 * i for i in range(ROWS)]


def test_without_ids_the_log_says_what_that_means(rows, caplog):
    with caplog.at_level(logging.INFO, "ray_classy"):
        data = made(rows)
    assert sorted(data.labels().tolist()) == sorted(number % 2 for number in range(ROWS))
    assert "no id_column" in caplog.text


@pytest.mark.full
def test_two_workers_train_as_one_process_does(rows, tmp_path):
    from ray.train import ScalingConfig

    first = task(rows)
    for dataset in first.datasets.values():
        dataset.batchsize_per_replica //= 2
        dataset.set_num_workers(1)
    ray_run = RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path / "ray")).train(first)
    local = LocalTrainer(str(tmp_path / "local")).train(task(rows))
    for phase in ("train", "test"):
        assert ray_run.metrics[phase]["loss"] == pytest.approx(local.metrics[phase]["loss"], rel=1e-5)


@pytest.mark.full
def test_two_workers_train_on_a_side_of_a_split_as_one_process_does(rows, tmp_path):
    from ray.train import ScalingConfig

    def split_task(batch):
        one = task(rows)
        for side, dataset in one.datasets.items():
            Split(test=0.4, seed=2).take(dataset, side)
            dataset.batchsize_per_replica = batch
            dataset.set_num_workers(1)
        one.datasets["train"].sampling = BalancedSampling(rows=20)
        one.datasets["train"].shuffle = True
        return one

    ray_run = RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path / "ray")).train(split_task(2))
    local = LocalTrainer(str(tmp_path / "local")).train(split_task(4))
    for phase in ("train", "test"):
        assert ray_run.metrics[phase]["loss"] == pytest.approx(local.metrics[phase]["loss"], rel=1e-5)


def test_ids_are_split_as_the_values_of_a_column(rows):
    data = made(rows, id_column="id")
    assert data.row_keys().tolist() == data.row_keys("id").tolist() == text_keys(pa.array(range(ROWS))).tolist()
    assert data.row_values("other").tolist() == [1] * ROWS
    with pytest.raises(ComponentError, match="have no ids"):
        made(rows).row_keys()


def test_blocks_of_pandas_and_arrays(ray_cluster):
    import ray.data

    images = [np.full((3, 2, 3), number, np.uint8) for number in range(4)]
    data = made(ray.data.from_pandas(pd.DataFrame({"image": images, "label": [0, 1, 0, 1]})))
    assert [round(float(data[i]["input"].max() * 255)) for i in range(4)] == [0, 1, 2, 3]


def test_mistakes(rows):
    import ray.data

    with pytest.raises(DataError, match=r"no column 'imag': it has .*did you mean 'image'"):
        made(rows, image_column="imag")
    with pytest.raises(DataError, match=r"the id 1 in column 'other' occurs 23 times"):
        made(rows, id_column="other")
    with pytest.raises(DataError, match=r"expected a ray\.data\.Dataset with columns image, label; this one is a list"):
        made([1])
    with pytest.raises(DataError, match="has no rows"):
        made(ray.data.from_items([{"image": b"", "label": 0}]).filter(lambda row: False))
