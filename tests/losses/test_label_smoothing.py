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
    torch.testing.assert_close(LabelSmoothingCrossEntropyLoss(s, reduction=reduction)(OUTPUT, INDEX), expected)


def test_no_smoothing_is_the_plain_cross_entropy():
    torch.testing.assert_close(LabelSmoothingCrossEntropyLoss(0)(OUTPUT, INDEX), F.cross_entropy(OUTPUT, INDEX))


def test_multi_hot_targets_are_normalised_before_and_after():
    target = torch.tensor([[1, 1, 0, 0, 0]])
    aim = torch.tensor([[0.5 + 0.1, 0.5 + 0.1, 0.1, 0.1, 0.1]]) / 1.5
    expected = -(aim * F.log_softmax(OUTPUT[:1], 1)).sum()
    torch.testing.assert_close(LabelSmoothingCrossEntropyLoss(0.5)(OUTPUT[:1], target), expected)


def test_one_hot_targets_and_indices_agree():
    loss = LabelSmoothingCrossEntropyLoss(0.2)
    torch.testing.assert_close(loss(OUTPUT, F.one_hot(INDEX, 5)), loss(OUTPUT, INDEX))
    torch.testing.assert_close(loss(OUTPUT, INDEX[:, None]), loss(OUTPUT, INDEX))


def test_ignored_samples_are_not_counted():
    target = torch.tensor([0, -1, 1, -1])
    loss = LabelSmoothingCrossEntropyLoss(0.2, ignore_index=-1)
    torch.testing.assert_close(loss(OUTPUT, target), loss(OUTPUT[::2], target[::2]))


def test_the_config_gives_the_smoothing():
    loss = build_loss({"name": "label_smoothing_cross_entropy", "smoothing_param": 0.1, "reduction": "none"})
    assert loss(OUTPUT, INDEX).shape == (4,)


@pytest.mark.parametrize("wrong", [{"smoothing_param": -0.1}, {"smoothing_param": True}, {"reduction": "median"}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ComponentError, match=next(iter(wrong))):
        build_loss({"name": "label_smoothing_cross_entropy", "smoothing_param": 0.1, **wrong})
