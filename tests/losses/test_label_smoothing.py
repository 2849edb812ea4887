import copy

import pytest
import torch
import torch.nn.functional as F

from ray_classy.errors import ComponentError
from ray_classy.losses import LabelSmoothingCrossEntropyLoss, build_loss

torch.manual_seed(0)
OUTPUT = torch.randn(4, 5)
INDEX = torch.tensor([0, 2, 1, 4])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_it_is_torchs_smoothing_with_another_parameter(reduction):
    s = 0.25
    expected = F.cross_entropy(OUTPUT, INDEX, label_smoothing=s / (1 + s), reduction=reduction)
    torch.testing.assert_close(
        LabelSmoothingCrossEntropyLoss(reduction=reduction, smoothing_param=s)(OUTPUT, INDEX), expected
    )


def test_no_smoothing_is_the_plain_cross_entropy():
    torch.testing.assert_close(
        LabelSmoothingCrossEntropyLoss(smoothing_param=0)(OUTPUT, INDEX), F.cross_entropy(OUTPUT, INDEX)
    )


def test_multi_hot_targets_are_normalised_before_and_after():
    target = torch.tensor([[1, 1, 0, 0, 0]])
    aim = torch.tensor([[0.5 + 0.1, 0.5 + 0.1, 0.1, 0.1, 0.1]]) / 1.5
    expected = -(aim * F.log_softmax(OUTPUT[:1], 1)).sum()
    torch.testing.assert_close(LabelSmoothingCrossEntropyLoss(smoothing_param=0.5)(OUTPUT[:1], target), expected)


def test_one_hot_targets_and_indices_agree():
    loss = LabelSmoothingCrossEntropyLoss(smoothing_param=0.2)
    torch.testing.assert_close(loss(OUTPUT, F.one_hot(INDEX, 5)), loss(OUTPUT, INDEX))
    torch.testing.assert_close(loss(OUTPUT, INDEX[:, None]), loss(OUTPUT, INDEX))


def test_ignored_samples_are_not_counted():
    target = torch.tensor([0, -1, 1, -1])
    loss = LabelSmoothingCrossEntropyLoss(-1, smoothing_param=0.2)
    torch.testing.assert_close(loss(OUTPUT, target), loss(OUTPUT[::2], target[::2]))


def test_the_config_gives_the_smoothing():
    loss = build_loss({"name": "label_smoothing_cross_entropy", "smoothing_param": 0.1, "reduction": "none"})
    assert loss(OUTPUT, INDEX).shape == (4,)


@pytest.mark.parametrize(
    "wrong", [{"smoothing_param": None}, {"smoothing_param": -0.1}, {"smoothing_param": True}, {"reduction": "median"}]
)
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ComponentError, match=next(iter(wrong))):
        build_loss({"name": "label_smoothing_cross_entropy", "smoothing_param": 0.1, **wrong})


def test_an_unknown_reduction_is_not_implemented_as_before():
    with pytest.raises(NotImplementedError):
        LabelSmoothingCrossEntropyLoss(-100, "median", 0.1)


def test_a_config_without_smoothing_is_an_assertion_error_as_before():
    with pytest.raises(AssertionError, match="smoothing_param"):
        build_loss({"name": "label_smoothing_cross_entropy"})


@pytest.mark.parametrize(
    ("target", "valid", "smooth"),
    [
        ([2], [[0, 0, 1]], [[1, 1, 7]]),
        ([[-1]], [[0, 0, 0]], [[3, 3, 3]]),
        ([[-1, 1, 1]], [[0, 1, 1]], [[1, 4, 4]]),
    ],
)
def test_targets_are_made_valid_and_smoothed(target, valid, smooth):
    loss = LabelSmoothingCrossEntropyLoss(ignore_index=-1, smoothing_param=0.5)
    made = loss.compute_valid_targets(torch.tensor(target), 3)
    assert made.tolist() == valid
    torch.testing.assert_close(loss.smooth_targets(made, 3), torch.tensor(smooth) / 9)


def test_a_copy_computes_the_same():
    loss = LabelSmoothingCrossEntropyLoss(smoothing_param=0.2)
    assert copy.deepcopy(loss)(OUTPUT, INDEX) == loss(OUTPUT, INDEX)
