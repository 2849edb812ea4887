"""What transforms declare about themselves, and what follows from it."""

import pytest
import torch
import torchvision.transforms as v1
from PIL import Image
from torchvision.transforms import v2

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.transforms import (
    ApplyTransformToKey,
    ClassyTransform,
    TupleToMapTransform,
    build_transforms,
)
from ray_classy.dataset.transforms.placement import place
from ray_classy.dataset.transforms.traits import TORCHVISION, is_deterministic, is_thread_safe


class Halve(ClassyTransform):
    """A transform as a user writes it."""

    deterministic = True
    batchable = True

    def __call__(self, image):
        return image / 2


class Noise(Halve):
    def __call__(self, image):
        return image + torch.rand(1)


class Renamed(Halve):
    pass


@pytest.mark.parametrize(
    ("configs", "random"),
    [
        ([{"name": "ToTensor"}], False),
        ([{"name": "Resize", "size": 8}, {"name": "CenterCrop", "size": 4}, {"name": "ToImage"}], False),
        ([{"name": "imagenet_no_augment"}], False),
        ([{"name": "apply_transform_to_key", "transforms": [{"name": "ToTensor"}]}], False),
        ([{"name": "apply_transform_to_key", "transforms": [{"name": "RandomHorizontalFlip"}]}], True),
        ([{"name": "imagenet_augment"}], True),
        ([{"name": "lighting"}], True),
        ([{"name": "ToTensor"}, {"name": "RandomErasing"}], True),
    ],
)
def test_which_transforms_are_deterministic(configs, random):
    assert is_deterministic(build_transforms(configs)) is not random


def test_nothing_is_assumed_of_what_declares_nothing():
    assert not is_deterministic(lambda sample: sample) and not is_thread_safe(lambda sample: sample)


def test_torchvisions_older_classes_are_deterministic_but_not_batched():
    older = v1.Compose([v1.Resize(8), v1.ToTensor()])
    assert is_deterministic(older) and not is_deterministic(v1.RandomCrop(3))
    assert place(ApplyTransformToKey(v1.Normalize([0.5], [0.5]))).batched is None


def test_the_table_names_classes_of_torchvision():
    assert not [name for name in TORCHVISION if not hasattr(v2, name)]


def test_a_subclass_that_overrides_the_call_declares_for_itself():
    assert is_deterministic(Halve()) and is_deterministic(Renamed()) and not is_deterministic(Noise())
    assert is_deterministic(TupleToMapTransform(["input"]))


def test_a_users_batchable_transform_runs_on_whole_batches():
    transform = ApplyTransformToKey(build_transforms([{"name": "ToTensor"}]))
    transform.transform.transforms.append(Halve())
    assert place(transform).names() == ([], ["ToTensor", "Halve"])
    image = Image.new("L", (2, 2), 51)
    base = RowDataset(ItemRows(value=[0] * 5), lambda row: {"input": image, "target": 0})
    (batch,) = ClassyDataset(base, 5, False, transform).iterator()
    assert torch.allclose(batch["input"], torch.full((5, 1, 2, 2), 0.1))
