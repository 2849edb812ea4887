import math

import pytest
import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.losses import AsymmetricLoss, BinaryCrossEntropyLoss, FocalLoss, build_loss
from ray_classy.losses.loss_weight import weight_of
from ray_classy.registry import config_keys

OUTPUT = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 1.0]])
HOT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
INDEX = torch.tensor([2, 0])


def entries(function, target=HOT):
    """The mean of a formula over all entries, computed with plain floats."""
    pairs = zip(OUTPUT.flatten().tolist(), target.flatten().tolist(), strict=True)
    values = [function(1 / (1 + math.exp(-x)), y) for x, y in pairs]
    return sum(values) / len(values)


def binary(p, y):
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def test_binary_cross_entropy_of_values_per_class_is_the_formula_and_torchs():
    found = BinaryCrossEntropyLoss()(OUTPUT, HOT)
    assert found.item() == pytest.approx(entries(binary)) == pytest.approx(nn.BCEWithLogitsLoss()(OUTPUT, HOT).item())


@pytest.mark.parametrize("target", [INDEX, INDEX[:, None], INDEX.to(torch.uint8)])
def test_binary_cross_entropy_smooths_class_indices(target):
    smooth = torch.tensor([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    assert BinaryCrossEntropyLoss(smoothing=0.3)(OUTPUT, target).item() == pytest.approx(entries(binary, smooth))
    assert BinaryCrossEntropyLoss(smoothing=0.3)(OUTPUT, HOT) == BinaryCrossEntropyLoss()(OUTPUT, HOT)


def test_one_output_says_yes_or_no():
    expected = nn.BCEWithLogitsLoss()(OUTPUT[:, 0], torch.tensor([1.0, 0.0]))
    for target in (torch.tensor([1, 0]), torch.tensor([[1.0], [0.0]])):
        torch.testing.assert_close(BinaryCrossEntropyLoss()(OUTPUT[:, :1], target), expected)


def test_positives_have_a_weight_for_each_class():
    loss = build_loss({"name": "binary_cross_entropy", "pos_weight": [1, 2, 3]})
    expected = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2, 3]))(OUTPUT, HOT)
    torch.testing.assert_close(loss(OUTPUT, HOT), expected)
    assert loss.get_classy_state() == {}


def test_focal_loss_of_sigmoids_is_the_formula():
    def focal(p, y):
        p_t, alpha_t = (p, 0.25) if y else (1 - p, 0.75)
        return -alpha_t * (1 - p_t) ** 2 * math.log(p_t)

    assert FocalLoss(gamma=2, alpha=0.25)(OUTPUT, HOT).item() == pytest.approx(entries(focal))
    assert FocalLoss(gamma=0)(OUTPUT, HOT).item() == pytest.approx(entries(binary))


def test_focal_loss_of_softmax_is_the_formula():
    weights, rows = [0.5, 1.0, 2.0], []
    for scores, label in zip(OUTPUT.tolist(), INDEX.tolist(), strict=True):
        p = math.exp(scores[label]) / sum(map(math.exp, scores))
        rows.append(-weights[label] * (1 - p) ** 1.5 * math.log(p))
    loss = build_loss({"name": "focal", "activation": "softmax", "gamma": 1.5, "alpha": weights})
    assert loss(OUTPUT, INDEX).item() == pytest.approx(sum(rows) / 2)
    torch.testing.assert_close(FocalLoss(0, activation="softmax")(OUTPUT, INDEX), nn.CrossEntropyLoss()(OUTPUT, INDEX))


def test_asymmetric_loss_is_the_formula():
    def asymmetric(p, y):
        q = max(p - 0.05, 0)
        return -(1 - p) * math.log(p) if y else -(q**4) * math.log(1 - q)

    assert AsymmetricLoss()(OUTPUT, HOT).item() == pytest.approx(3 * entries(asymmetric))
    assert AsymmetricLoss(0, 0, 0, sum_classes=False)(OUTPUT, HOT).item() == pytest.approx(entries(binary))


EVERY = [
    BinaryCrossEntropyLoss(),
    FocalLoss(alpha=0.25),
    FocalLoss(0.5),
    FocalLoss(activation="softmax"),
    AsymmetricLoss(),
    AsymmetricLoss(0.5, 0),
]


@pytest.mark.parametrize("loss", EVERY)
def test_gradients_are_finite_where_predictions_are_certain(loss):
    output = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
    value = loss(output, HOT)
    value.backward()
    assert value.isfinite() and output.grad.isfinite().all()


@pytest.mark.parametrize("loss", EVERY)
def test_batches_put_together_by_their_weights_are_one_batch(loss):
    output = torch.cat([OUTPUT, -OUTPUT, OUTPUT])
    target = torch.cat([HOT, torch.full((2, 3), -100.0), HOT])
    target[0, 0] = target[0, 1] = -100
    parts = [
        (loss(o, t), weight_of(loss, o, t))
        for o, t in zip(output.split([1, 3, 2]), target.split([1, 3, 2]), strict=True)
    ]
    together = sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
    torch.testing.assert_close(together.float(), loss(output, target))


def test_a_row_of_ignored_entries_counts_as_none():
    target, output = torch.cat([HOT, torch.full((1, 3), -100.0)]), torch.cat([OUTPUT, OUTPUT[:1]])
    torch.testing.assert_close(AsymmetricLoss()(output, target), AsymmetricLoss()(OUTPUT, HOT))
    for index in (-100, 7):
        loss = BinaryCrossEntropyLoss(ignore_index=index)
        torch.testing.assert_close(loss(output, torch.tensor([2, 0, index])), loss(OUTPUT, INDEX))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FocalLoss(-1), "gamma must be a number of at least 0"),
        (lambda: FocalLoss(alpha=2), "alpha must be a number from 0 to 1"),
        (lambda: FocalLoss(activation="tanh"), "activation"),
        (lambda: AsymmetricLoss(clip=1.5), "clip"),
        (lambda: BinaryCrossEntropyLoss(smoothing="a"), "smoothing"),
        (lambda: BinaryCrossEntropyLoss(pos_weight="balanced"), "built from a config"),
        (lambda: BinaryCrossEntropyLoss()(OUTPUT, HOT[:, :2]), "target .2, 2."),
    ],
)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ComponentError, match=message):
        build()


def test_configs_have_the_arguments_as_keys():
    assert {"gamma", "alpha", "activation"} <= config_keys(FocalLoss).keys()
