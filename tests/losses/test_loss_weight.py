import numpy as np
import pytest
import torch
from torch import nn

from ray_classy.losses import LabelSmoothingCrossEntropyLoss, MultiOutputSumLoss, SoftTargetCrossEntropyLoss
from ray_classy.losses.loss_weight import divides_by_rows, ignored_index, unlabelled, weight_of, zero_without_weight

OUTPUT = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(1)
TARGET = torch.tensor([0, 1, 2, 3, -1, -1, 0, 0, 1, -1, 3, 2])
WEIGHT = torch.tensor([0.1, 1.0, 3.0, 8.0], dtype=torch.float64)
SOFT = OUTPUT.exp().flip(0)

LOSSES = {
    "ignored": (nn.CrossEntropyLoss(ignore_index=-1), TARGET),
    "weights": (nn.CrossEntropyLoss(WEIGHT), TARGET.clamp(min=0)),
    "all": (nn.CrossEntropyLoss(WEIGHT, ignore_index=-1, label_smoothing=0.2), TARGET),
    "smoothing": (nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.2), TARGET),
    "probabilities": (nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.2), SOFT),
    "nll": (nn.NLLLoss(WEIGHT, ignore_index=-1), TARGET),
    "ours": (LabelSmoothingCrossEntropyLoss(-1, smoothing_param=0.1), TARGET),
    "soft": (SoftTargetCrossEntropyLoss(ignore_index=-1), TARGET.reshape(-1, 1)),
    "multi-hot": (
        SoftTargetCrossEntropyLoss(ignore_index=-1),
        SOFT.masked_fill(torch.arange(12)[:, None] % 3 == 0, -1),
    ),
    "outputs": (MultiOutputSumLoss(nn.CrossEntropyLoss(WEIGHT, ignore_index=-1)), TARGET),
    "margin": (nn.MultiMarginLoss(weight=WEIGHT), TARGET.clamp(min=0)),
    "bce": (nn.BCEWithLogitsLoss(pos_weight=WEIGHT), SOFT),
}
PIECES = [slice(0, 1), slice(1, 4), slice(6, 12), slice(4, 6)]


@pytest.mark.parametrize("name", LOSSES)
def test_means_of_batches_make_the_mean_of_all_rows(name):
    loss, target = LOSSES[name]
    total = weights = 0.0
    for piece in PIECES:
        weight = weight_of(loss, OUTPUT[piece], target[piece])
        weight = torch.tensor(len(target[piece])) if weight is None else weight
        value = zero_without_weight(loss(OUTPUT[piece], target[piece]), weight, OUTPUT[piece], loss)
        total, weights = total + value * weight, weights + weight
    assert torch.allclose(total / weights, loss(OUTPUT, target), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        (nn.CrossEntropyLoss(ignore_index=-1), -1),
        (nn.CrossEntropyLoss(WEIGHT, ignore_index=-1, label_smoothing=0.1), -1),
        (nn.CrossEntropyLoss(torch.tensor([0.0, 1, 1, 1], dtype=torch.float64)), 0),
        (nn.NLLLoss(WEIGHT), -100),
        (SoftTargetCrossEntropyLoss(), -100),
    ],
)
def test_batch_without_weight_has_loss_and_gradient_zero(loss, label):
    scores, target = OUTPUT.clone().requires_grad_(), torch.full((12,), label)
    output = scores * 2
    weight = weight_of(loss, output, target)
    value = zero_without_weight(loss(output, target), weight, output, loss)
    value.backward()
    assert weight == 0 and value == 0 and torch.equal(scores.grad, torch.zeros_like(scores))


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.CrossEntropyLoss(reduction="sum"), nn.BCEWithLogitsLoss()])
def test_other_losses_count_rows(loss):
    assert weight_of(loss, OUTPUT, TARGET) is None


class OwnMean(nn.Module):
    def weight_of(self, output, target):
        return target.sum()


class Focal(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return (output.exp() * output).mean()


def test_loss_says_what_it_divides_by():
    assert weight_of(OwnMean(), OUTPUT, torch.tensor([2, 3])) == 5


def test_subclass_with_its_own_forward_counts_rows():
    assert weight_of(Focal(), OUTPUT, TARGET) is None


def test_losses_and_the_label_they_ignore():
    losses = [nn.CrossEntropyLoss(), nn.NLLLoss(ignore_index=255), nn.MSELoss(), SoftTargetCrossEntropyLoss(-1), None]
    assert [ignored_index(loss) for loss in losses] == [-100, 255, None, -1, None]


def test_ignored_label_becomes_a_negative_one():
    assert unlabelled(nn.CrossEntropyLoss(ignore_index=3), torch.tensor([0, 3])).tolist() == [0, -1]
    assert unlabelled(nn.CrossEntropyLoss(ignore_index=-1), torch.tensor([0, -1])).tolist() == [0, -1]
    assert unlabelled(nn.CrossEntropyLoss(ignore_index=1), SOFT) is SOFT


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_targets_of_other_integer_types(dtype):
    target = TARGET.clamp(min=0).to(dtype)
    for loss in (nn.CrossEntropyLoss(WEIGHT, ignore_index=3), nn.CrossEntropyLoss(WEIGHT)):
        assert weight_of(loss, OUTPUT, target) == weight_of(loss, OUTPUT, target.long())
    assert unlabelled(nn.CrossEntropyLoss(ignore_index=3), target).tolist() == [
        -1 if label == 3 else label for label in target.tolist()
    ]


def test_class_probabilities_have_a_weight_too():
    images = torch.rand(2, 4, 5, 6, dtype=torch.float64)
    assert weight_of(nn.CrossEntropyLoss(WEIGHT), images, images.softmax(1)) == 60
    assert weight_of(nn.CrossEntropyLoss(), images[0, :, 0, 0], images[0, :, 0, 0].softmax(0)) == 1


def test_target_of_a_loss_of_the_tasks_own_counts_rows():
    for loss in (
        SoftTargetCrossEntropyLoss(),
        LabelSmoothingCrossEntropyLoss(smoothing_param=0.1),
        nn.CrossEntropyLoss(),
    ):
        assert weight_of(loss, OUTPUT, {"class": TARGET}) is None


def test_losses_that_divide_by_the_number_of_known_labels():
    labels = np.array([0, 1, 3])
    dividing = [
        nn.CrossEntropyLoss(),
        MultiOutputSumLoss(nn.NLLLoss(ignore_index=2)),
        LabelSmoothingCrossEntropyLoss(smoothing_param=0.1),
    ]
    others = [nn.CrossEntropyLoss(WEIGHT), nn.CrossEntropyLoss(ignore_index=3), OwnMean(), Focal()]
    assert [divides_by_rows(loss, labels) for loss in dividing + others] == [True] * 3 + [False] * 4
