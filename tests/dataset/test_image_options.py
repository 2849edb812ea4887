import pytest

from ray_classy.dataset.image_options import ImageOptions
from ray_classy.errors import ComponentError


@pytest.mark.parametrize(
    "given",
    [
        {"max_pixels": 0},
        {"max_pixels": 2.5},
        {"max_pixels": True},
        {"max_pixels": None},
        {"background": "no colour"},
        {"background": [1, 2]},
        {"background": [0, 0, 256]},
        {"background": [0, 0, True]},
        {"background": 7},
        {"value_range": [1, 0]},
        {"value_range": [0, float("nan")]},
        {"value_range": [0, 1, 2]},
        {"value_range": "all"},
        {"value_range": 255},
    ],
)
def test_invalid_values_are_named(given):
    with pytest.raises(ComponentError, match=next(iter(given))):
        ImageOptions(**given)


def test_colours():
    assert ImageOptions(background="white").colour() == (255, 255, 255)
    assert ImageOptions(background=[1, 2, 3]).colour() == (1, 2, 3)
