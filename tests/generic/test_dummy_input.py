import pytest
from torch import nn

from ray_classy.generic.util import get_model_dummy_input


@pytest.mark.parametrize(
    ("shape", "key", "made"),
    [
        ((3, 4), None, (2, 3, 4)),
        ((3, 4), "x", {"x": (2, 3, 4)}),
        ([(3, 4), (5,)], ["x", "y"], {"x": (2, 3, 4), "y": (2, 5)}),
        ({"x": (3,)}, None, {"x": (2, 3)}),
    ],
)
def test_zeros_have_the_shape_that_the_model_takes(shape, key, made):
    zeros = get_model_dummy_input(nn.Linear(1, 1), shape, key, batchsize=2)
    shapes = {name: tuple(value.shape) for name, value in zeros.items()} if isinstance(zeros, dict) else zeros.shape
    assert shapes == made
