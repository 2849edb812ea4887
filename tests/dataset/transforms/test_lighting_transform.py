import pytest
import torch

from ray_classy.dataset.transforms import build_transform
from ray_classy.errors import ComponentError, DataError


def test_adds_one_colour_to_all_pixels():
    image = torch.rand(3, 4, 5)
    shift = build_transform({"name": "lighting"})(image) - image
    assert torch.allclose(shift, shift[:, :1, :1].expand_as(shift), atol=1e-6) and shift.abs().max() > 0


def test_shift_is_the_weighted_sum_of_the_components():
    image = torch.zeros(3, 1, 1)
    vectors = [[255.0, 0.0, 0.0], [0.0, 510.0, 0.0], [0.0, 0.0, 255.0]]
    transform = build_transform({"name": "lighting", "alphastd": 1.0, "eigval": [1.0, 1.0, 3.0], "eigvec": vectors})
    torch.manual_seed(0)
    alpha = torch.randn(3)
    torch.manual_seed(0)
    assert torch.allclose(transform(image).flatten(), alpha * torch.tensor([1.0, 2.0, 3.0]))


def test_zero_deviation_changes_nothing():
    image = torch.rand(3, 4, 5)
    assert torch.equal(build_transform({"name": "lighting", "alphastd": 0.0})(image), image)


@pytest.mark.parametrize("image", [torch.rand(3, 4, 5) + 1, torch.rand(1, 4, 5), torch.ones(3, 4, 5).byte(), "image"])
def test_refuses_other_images(image):
    with pytest.raises(DataError, match="lighting"):
        build_transform({"name": "lighting"})(image)


@pytest.mark.parametrize("arguments", [{"alphastd": -1.0}, {"eigval": [1.0]}])
def test_refuses_impossible_arguments(arguments):
    with pytest.raises(ComponentError, match="lighting"):
        build_transform({"name": "lighting", **arguments})
