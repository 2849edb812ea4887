import math

import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.losses import BarronLoss, build_loss

PREDICTION = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
TARGET = torch.tensor([[0.0, 1.0], [-1.0, 0.5]])
HALF_SQUARES = torch.tensor([[0.5, 4.5], [8.0, 0.0]])  # of the differences


@pytest.mark.parametrize(
    ("alpha", "entry"),
    [
        (2.0, lambda half: half),
        (0, torch.log1p),
        ("inf", lambda half: 1 - torch.exp(-half)),
        (-math.inf, lambda half: 1 - torch.exp(-half)),
        (1.0, lambda half: (2 * half + 1).sqrt() - 1),
        (-2.0, lambda half: 2 * half / (half + 2)),
    ],
)
def test_entries_are_summed_or_averaged_over_the_batch(alpha, entry):
    expected = entry(HALF_SQUARES).sum(0, keepdim=True)
    torch.testing.assert_close(BarronLoss(alpha, False, 1.0)(PREDICTION, TARGET), expected)
    torch.testing.assert_close(BarronLoss(alpha, True, 1.0)(PREDICTION, TARGET), expected / 2)


def test_differences_are_scaled():
    loss = build_loss({"name": "barron", "alpha": 1.5, "size_average": True, "c": 0.5})
    torch.testing.assert_close(loss(PREDICTION, TARGET), BarronLoss(1.5, True, 1.0)(2 * PREDICTION, 2 * TARGET))


def test_the_gradient_reaches_the_prediction():
    for alpha in (1.0, -math.inf):
        prediction = PREDICTION.double().requires_grad_()
        assert torch.autograd.gradcheck(BarronLoss(alpha, True, 0.7), (prediction, TARGET.double()))


@pytest.mark.parametrize(
    "wrong", [{"alpha": "x"}, {"alpha": None}, {"alpha": math.nan}, {"size_average": 1}, {"c": 0.0}, {"c": -1.0}]
)
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ComponentError, match=next(iter(wrong))):
        build_loss({"name": "barron", "alpha": 1.0, "size_average": True, "c": 1.0, **wrong})


def test_a_missing_key_is_a_key_error_as_before():
    with pytest.raises(KeyError, match="has no `size_average`"):
        build_loss({"name": "barron", "alpha": 1.0, "c": 1.0})


def test_one_prediction_per_row_and_a_target_without_that_dimension():
    loss = BarronLoss(2.0, False, 1.0)
    assert loss(PREDICTION[:, :1], TARGET[:, 0]).tolist() == [[8.5]] and loss(PREDICTION[:, 0], TARGET[:, 0]) == 8.5


def test_shapes_that_differ_are_refused():
    with pytest.raises(ComponentError, match="one shape"):
        BarronLoss(1.0, True, 1.0)(PREDICTION, TARGET[:, :1])
