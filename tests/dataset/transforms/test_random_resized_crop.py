import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ray_classy.dataset.transforms import build_transform
from ray_classy.dataset.transforms.random_resized_crop import RandomResizedCrop

IMAGE = torch.zeros(3, 300, 400)


def crops(transform, image=IMAGE, count=4000):
    torch.manual_seed(0)
    return [transform.make_params([image]) for _ in range(count)]


def values(params):
    return np.array([[one[name] for name in ("top", "left", "height", "width")] for one in params], dtype=float)


def test_it_is_what_a_config_means():
    assert type(build_transform({"name": "RandomResizedCrop", "size": 8})) is RandomResizedCrop


@pytest.mark.parametrize("options", [{}, {"scale": (0.3, 0.5)}, {"ratio": (0.5, 0.6)}])
def test_crops_are_distributed_as_torchvisions(options):
    ours, theirs = (values(crops(cls(8, **options))) for cls in (RandomResizedCrop, v2.RandomResizedCrop))
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 3
    assert np.abs(ours.std(0) - theirs.std(0)).max() < 3
    for share in (0.05, 0.5, 0.95):
        assert np.abs(np.quantile(ours, share, axis=0) - np.quantile(theirs, share, axis=0)).max() < 10


def test_crops_lie_within_the_image():
    for image in (IMAGE, torch.zeros(3, 1, 1), torch.zeros(3, 2, 500), torch.zeros(3, 500, 2)):
        for top, left, height, width in values(crops(RandomResizedCrop(8), image, 300)):
            assert top >= 0 and left >= 0 and height > 0 and width > 0
            assert top + height <= image.shape[-2] and left + width <= image.shape[-1]


@pytest.mark.parametrize("shape", [(10, 1000), (1000, 10), (20, 20)])
def test_without_a_fitting_crop_the_central_one_is_torchvisions(shape):
    image = torch.zeros(3, *shape)
    options = {"scale": (2.0, 3.0)}
    assert crops(RandomResizedCrop(8, **options), image, 1) == crops(v2.RandomResizedCrop(8, **options), image, 1)


def test_every_place_is_reached():
    places = {int(one["top"]) for one in crops(RandomResizedCrop(8, scale=(0.9, 1.0)), torch.zeros(3, 20, 20))}
    assert places >= {0, 1}


def test_images_of_both_kinds_are_cropped():
    torch.manual_seed(0)
    assert RandomResizedCrop((4, 6))(Image.new("RGB", (30, 20))).size == (6, 4)
    assert RandomResizedCrop(4)(torch.zeros(3, 20, 30, dtype=torch.uint8)).shape == (3, 4, 4)
