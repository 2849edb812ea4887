import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy.dataset.transforms import ImagenetAutoAugment, build_transform
from ray_classy.dataset.transforms.autoaugment import _POLICIES
from ray_classy.dataset.transforms.util import build_field_transform_default_imagenet
from ray_classy.errors import ComponentError, DataError


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8))


def test_images_stay_pil_images_of_their_size(image):
    torch.manual_seed(0)
    transform = build_transform({"name": "imagenet_autoaugment"})
    results = [transform(image) for _ in range(50)]
    assert {(one.size, one.mode) for one in results} == {((16, 24), "RGB")}
    assert len({one.tobytes() for one in results}) > 20


def test_every_operation_runs(image):
    transform = ImagenetAutoAugment((1, 2, 3))
    operations = {(name, magnitude) for pair in _POLICIES for name, _, magnitude in pair}
    results = {name: transform._applied(image, name, magnitude) for name, magnitude in operations}
    assert len(_POLICIES) == 24 and {one.size for one in results.values()} == {(16, 24)}
    assert results["rotate"].getpixel((0, 0)) == (1, 2, 3) and results["invert"].getpixel((0, 0)) == tuple(
        255 - value for value in image.getpixel((0, 0))
    )


def test_seed_of_torch_decides(image):
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(ImagenetAutoAugment()(image).tobytes())
    assert results[0] == results[1]


def test_with_the_transform_of_a_field(image):
    transform = build_field_transform_default_imagenet([{"name": "imagenet_autoaugment"}, {"name": "ToTensor"}])
    assert transform((image, 1))["input"].shape == (3, 24, 16)


@pytest.mark.parametrize("fillcolor", [(1, 2), (0, 0, 256)])
def test_impossible_colour(fillcolor):
    with pytest.raises(ComponentError, match="fillcolor"):
        ImagenetAutoAugment(fillcolor)


def test_tensor_is_refused():
    with pytest.raises(DataError, match="before ToTensor"):
        ImagenetAutoAugment()(torch.zeros(3, 4, 4))
