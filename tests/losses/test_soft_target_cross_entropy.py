import pytest
import torch
import torch.nn.functional as F

from ray_classy.errors import ComponentError
from ray_classy.losses import SoftTargetCrossEntropyLoss, build_loss

torch.manual_seed(0)
OUTPUT = torch.randn(4, 3)
INDEX = torch.tensor([0, 2, 1, 1])
SOFT = torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25], [0.0, 0.5, 0.5]])


def test_indices_give_the_plain_cross_entropy():
    expected = F.cross_entropy(OUTPUT, INDEX)
    torch.testing.assert_close(SoftTargetCrossEntropyLoss()(OUTPUT, INDEX), expected)
    torch.testing.assert_close(SoftTargetCrossEntropyLoss()(OUTPUT, INDEX[:, None]), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_soft_targets_agree_with_torch(reduction):
    loss = SoftTargetCrossEntropyLoss(reduction=reduction)(OUTPUT, SOFT)
    torch.testing.assert_close(loss, F.cross_entropy(OUTPUT, SOFT, reduction=reduction))


def test_targets_are_scaled_to_sum_one():
    loss = SoftTargetCrossEntropyLoss()
    torch.testing.assert_close(loss(OUTPUT, 5 * SOFT), loss(OUTPUT, SOFT))


def test_targets_keep_their_mass_when_asked():
    loss = SoftTargetCrossEntropyLoss(normalize_targets=False)
    torch.testing.assert_close(loss(OUTPUT, 5 * SOFT), 5 * loss(OUTPUT, SOFT))


def test_ignored_indices_are_not_counted():
    target = torch.tensor([0, -100, 1, -100])
    torch.testing.assert_close(SoftTargetCrossEntropyLoss()(OUTPUT, target), F.cross_entropy(OUTPUT, target))


def test_ignored_entries_carry_no_mass_and_full_rows_are_not_counted():
    target = torch.tensor([[1, -1, 1], [-1, -1, -1]])
    log_probability = F.log_softmax(OUTPUT[:1], 1)[0]
    loss = SoftTargetCrossEntropyLoss(ignore_index=-1)(OUTPUT[:2], target)
    torch.testing.assert_close(loss, -(log_probability[0] + log_probability[2]) / 2)


def test_a_batch_with_nothing_to_count_costs_nothing():
    assert SoftTargetCrossEntropyLoss()(OUTPUT, torch.full((4,), -100)).item() == 0.0


def test_half_precision_outputs_are_reduced_in_single_precision():
    loss = SoftTargetCrossEntropyLoss()(OUTPUT.bfloat16(), INDEX)
    assert loss.dtype == torch.float32


def test_the_gradient_reaches_the_output():
    output = OUTPUT.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: SoftTargetCrossEntropyLoss()(x, SOFT.double()), (output,))


@pytest.mark.parametrize("target", [torch.zeros(3, dtype=torch.long), torch.zeros(4, 2), torch.zeros(4, 3, 1)])
def test_shapes_that_do_not_fit_are_named(target):
    with pytest.raises(ComponentError, match=r"output \(4, 3\)"):
        SoftTargetCrossEntropyLoss()(OUTPUT, target)


@pytest.mark.parametrize("wrong", [{"reduction": "median"}, {"normalize_targets": 1}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ComponentError, match=next(iter(wrong))):
        build_loss({"name": "soft_target_cross_entropy", **wrong})


def test_the_reduction_can_be_read_as_on_torchs_losses():
    assert SoftTargetCrossEntropyLoss(reduction="sum").reduction == "sum"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_does_not_wait_for_the_gpu():
    output, target = OUTPUT.cuda().requires_grad_(), INDEX.cuda()
    SoftTargetCrossEntropyLoss()(output, target).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        SoftTargetCrossEntropyLoss()(output, target).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
