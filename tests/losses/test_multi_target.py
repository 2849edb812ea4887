import pytest
import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.losses import BinaryCrossEntropyLoss, MultiTargetLoss, build_loss
from ray_classy.losses.loss_weight import unlabelled, weight_of

OUTPUT = {"type": torch.randn(4, 3), "tags": torch.randn(4, 2)}
TARGET = {"type": torch.tensor([0, 2, -100, 1]), "tags": torch.tensor([[1.0, 0], [-100, -100], [1, 1], [0, 0]])}
LOSS = {
    "name": "multi_target",
    "losses": {"type": {"name": "CrossEntropyLoss"}, "tags": {"name": "binary_cross_entropy"}},
    "weights": {"tags": 0.5},
}


def test_the_loss_is_the_weighted_sum_over_targets():
    whole = {name: value[[0, 3]] for name, value in TARGET.items()}
    output = {name: value[[0, 3]] for name, value in OUTPUT.items()}
    expected = nn.CrossEntropyLoss()(output["type"], whole["type"])
    expected = expected + 0.5 * nn.BCEWithLogitsLoss()(output["tags"], whole["tags"])
    torch.testing.assert_close(build_loss(LOSS)(output, whole), expected)


def test_rows_without_a_label_add_nothing_however_they_are_batched():
    loss = build_loss(LOSS)
    alone = [
        loss({k: v[i : i + 1] for k, v in OUTPUT.items()}, {k: v[i : i + 1] for k, v in TARGET.items()})
        for i in range(4)
    ]
    torch.testing.assert_close(torch.stack(alone).mean(), loss(OUTPUT, TARGET))
    assert weight_of(loss, OUTPUT, TARGET) is None


def test_a_batch_without_any_label_of_a_target_has_finite_gradients():
    output = {name: value.clone().requires_grad_() for name, value in OUTPUT.items()}
    build_loss(LOSS)(output, {**TARGET, "type": torch.full((4,), -100)}).backward()
    assert output["type"].grad.abs().sum() == 0 and output["tags"].grad.isfinite().all()


def test_meters_see_unlabelled_rows_as_negative():
    losses = {"type": nn.CrossEntropyLoss(ignore_index=2), "tags": BinaryCrossEntropyLoss()}
    seen = unlabelled(MultiTargetLoss(losses), TARGET)
    assert seen["type"].tolist() == [0, -1, -100, 1] and seen["tags"] is TARGET["tags"]


@pytest.mark.parametrize(
    ("output", "target", "message"),
    [
        (OUTPUT["type"], TARGET, "the model has one output"),
        (OUTPUT, TARGET["type"], "the rows have one target"),
        ({"type": OUTPUT["type"], "tag": OUTPUT["tags"]}, TARGET, "the heads are type, tag: give each head its target"),
        (OUTPUT, {"type": TARGET["type"]}, "the targets are type"),
    ],
)
def test_names_that_differ_are_named(output, target, message):
    with pytest.raises(ComponentError, match=message):
        build_loss(LOSS)(output, target)


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        ({}, None, "at least one loss"),
        ({"a": nn.CrossEntropyLoss()}, {"b": 1}, "no loss of 'b'"),
        ({"a": nn.CrossEntropyLoss()}, {"a": -1}, "weights.a"),
        ({"a": BinaryCrossEntropyLoss(reduction="sum")}, None, "losses.a: reduction must be mean"),
    ],
)
def test_wrong_arguments_are_refused(losses, weights, message):
    with pytest.raises(ComponentError, match=message):
        MultiTargetLoss(losses, weights)
