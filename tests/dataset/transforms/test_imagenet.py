import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from PIL import Image

from ray_classy.dataset.transforms import GenericImageTransform, build_transform
from ray_classy.dataset.transforms.random_resized_crop import RandomResizedCrop
from ray_classy.dataset.transforms.util import (
    ImagenetConstants,
    build_field_transform_default_imagenet,
    default_unnormalize,
)
from ray_classy.errors import ComponentError

NORMALIZE = v1.Normalize(ImagenetConstants.MEAN, ImagenetConstants.STD)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 270, 3), np.uint8))


def test_no_augment_equals_v1(image):
    expected = v1.Compose([v1.Resize(256), v1.CenterCrop(224), v1.ToTensor(), NORMALIZE])(image)
    assert torch.equal(build_transform({"name": "imagenet_no_augment"})(image), expected)


def test_augment_is_a_crop_a_flip_and_what_v1_does(image):
    expected = v1.Compose([RandomResizedCrop(64), v1.RandomHorizontalFlip(), v1.ToTensor(), NORMALIZE])
    transform = build_transform({"name": "imagenet_augment", "crop_size": 64})
    torch.manual_seed(1)
    one = transform(image)
    torch.manual_seed(1)
    assert torch.equal(one, expected(image))


def test_mean_and_std(image):
    transform = build_transform({"name": "imagenet_no_augment", "mean": [0.0] * 3, "std": [1.0] * 3})
    assert transform(image).min() >= 0 and transform(image).max() <= 1


def test_unnormalize_restores(image):
    pixels = v1.ToTensor()(image)
    assert torch.allclose(default_unnormalize(NORMALIZE(pixels)), pixels, atol=1e-6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_generic_split(image, split):
    assert GenericImageTransform(split=split)((image, 4))["input"].shape == (3, 224, 224)


def test_field_transform_names_the_items(image):
    sample = build_field_transform_default_imagenet(None, split="test")((image, 4))
    assert sample["input"].shape == (3, 224, 224) and sample["target"] == 4


def test_field_transform_prefers_the_config(image):
    transform = build_field_transform_default_imagenet([{"name": "CenterCrop", "size": 8}], split="test")
    assert transform((image, 4))["input"].size == (8, 8)


def test_field_transform_without_key_map():
    transform = build_field_transform_default_imagenet(None, default_transform=str, key="a", key_map_transform=None)
    assert transform({"a": 1}) == {"a": "1"}


@pytest.mark.parametrize("defaults", [{}, {"split": "test", "default_transform": str}])
def test_field_transform_refuses(defaults):
    with pytest.raises(ComponentError):
        build_field_transform_default_imagenet(None, **defaults)
