import numpy as np
import pytest
import torch

from ray_classy.dataset import DigitsDataset, build_dataset
from ray_classy.errors import ComponentError

COMMON = {"name": "digits", "batchsize_per_replica": 32, "use_shuffle": False}


@pytest.mark.parametrize(("split", "rows"), [("train", 1438), ("test", 359)])
def test_splits(split, rows):
    data = build_dataset({**COMMON, "split": split})
    assert len(data) == rows and data.classes == list("0123456789")


def test_classes_are_spread_alike():
    shares = [np.bincount(DigitsDataset(32, False, split=split).labels(), minlength=10) for split in ("train", "test")]
    assert np.all(np.abs(shares[1] / (shares[0] + shares[1]) - 0.2) < 0.01)


def test_splits_have_no_row_in_common():
    train, test = (DigitsDataset(32, False, split=split).dataset.rows for split in ("train", "test"))
    assert not set(train.column("image")) & set(test.column("image"))


def test_samples_are_small_grey_tensors():
    images = next(iter(build_dataset({**COMMON, "split": "train"}).iterator()))["input"]
    assert images.shape == (32, 1, 8, 8) and images.dtype == torch.float32
    assert images.min() == 0 and images.max() == 1


def test_rgb():
    assert build_dataset({**COMMON, "split": "test", "image_mode": "RGB"})[0]["input"].shape == (3, 8, 8)


def test_images_are_8_by_8():
    image = DigitsDataset(32, False, split="test")[0]["input"]
    assert image.size == (8, 8) and image.mode == "L"


def test_a_nearest_neighbour_can_tell_them_apart():
    train, test = (
        next(iter(build_dataset({**COMMON, "split": s, "batchsize_per_replica": 1438}).iterator()))
        for s in ("train", "test")
    )
    nearest = torch.cdist(test["input"].flatten(1), train["input"].flatten(1)).argmin(1)
    assert (train["target"][nearest] == test["target"]).float().mean() > 0.95


def test_no_such_split():
    with pytest.raises(ComponentError, match="val"):
        DigitsDataset(32, False, split="val")
