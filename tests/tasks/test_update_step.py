import numpy as np
import pytest
import torch
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.errors import ComponentError
from ray_classy.tasks.update_step import UpdateStep
from tests.helpers import RecordingHook, Vectors, equal_weights, make_task, sgd, train, weights

DOUBLE = torch.float64


def close(one, other, tolerance=1e-12):
    one, other = weights(one), weights(other)
    return all(torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one)


def test_accumulation_equals_one_big_batch():
    small = make_task(train=24, test=None, batch=4, dtype=DOUBLE, momentum=0.9).set_simulated_global_batchsize(12)
    assert close(train(small), train(make_task(train=24, test=None, batch=12, dtype=DOUBLE, momentum=0.9)))
    assert small.optimizer_period == 3


def test_last_incomplete_group_updates_with_its_own_scale():
    # 22 rows: groups of 4 + 4 + 4 and 4 + 4 + 2 rows, the short batch counting by its rows.
    small = make_task(train=22, test=None, batch=4, dtype=DOUBLE).set_simulated_global_batchsize(12)
    assert close(train(small), train(make_task(train=22, test=None, batch=12, dtype=DOUBLE)))


def test_groups_do_not_straddle_phases():
    small = make_task(train=10, test=None, batch=2, epochs=3, dtype=DOUBLE).set_simulated_global_batchsize(6)
    assert close(train(small), train(make_task(train=10, test=None, batch=6, epochs=3, dtype=DOUBLE)))


def some_unlabelled(sample):
    return {**sample, "target": -1 if sample["row"] % 3 == 0 or 8 <= sample["row"] < 12 else sample["target"]}


WEIGHTED = nn.CrossEntropyLoss(torch.tensor([0.1, 1, 3, 8], dtype=DOUBLE), ignore_index=-1, label_smoothing=0.1)


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_accumulation_equals_one_big_batch_where_rows_have_weights(batch, clip):
    def trained(batch):
        task = make_task(train=22, test=None, batch=batch, dtype=DOUBLE, transform=some_unlabelled, momentum=0.9)
        return train(task.set_loss(WEIGHTED).set_simulated_global_batchsize(12).set_clip_grad_norm(clip))

    one, other = trained(batch), trained(12)
    assert close(one, other) and one.losses.row_mean() > 0


def test_class_indices_and_probabilities_in_one_group():
    # A random mixup gives probabilities for some batches only; here they are those of the indices.
    def at_times(sample):
        probabilities = nn.functional.one_hot(sample["target"], 4).double()
        return {**sample, "target": probabilities if sample["row"][0] % 4 else sample["target"]}

    small = make_task(train=24, test=None, batch=2, dtype=DOUBLE, momentum=0.9).set_simulated_global_batchsize(12)
    small.set_mixup_transform(at_times)
    assert close(train(small), train(make_task(train=24, test=None, batch=12, dtype=DOUBLE, momentum=0.9)))


class Labelled(ClassyDataset):
    def labels(self):
        return np.asarray(self.dataset.targets)


@pytest.mark.parametrize(
    ("loss", "transform", "weighted"),
    [
        (nn.CrossEntropyLoss(), None, False),
        (nn.CrossEntropyLoss(), some_unlabelled, True),
        (nn.CrossEntropyLoss(ignore_index=2), None, True),
        (nn.CrossEntropyLoss(torch.ones(4, dtype=DOUBLE)), None, True),
    ],
)
def test_steps_ask_for_weights_only_where_rows_may_have_some(loss, transform, weighted):
    task = make_task(train=None, test=None, dtype=DOUBLE).set_loss(loss)
    task.set_dataset(Labelled(Vectors(8, dtype=DOUBLE), 4, False, transform), "train")
    task.set_hooks([hook := RecordingHook(lambda task: task._loss_weight is not None)])
    if transform is not None:
        loss.ignore_index = -1
    train(task)
    assert hook.seen("on_step") == [weighted] * 2


def test_group_of_ignored_rows_changes_nothing():
    task = make_task(train=4, test=None, batch=2, transform=lambda sample: {**sample, "target": -1})
    task.set_loss(nn.CrossEntropyLoss(ignore_index=-1)).set_simulated_global_batchsize(4)
    before = weights(task)
    assert equal_weights(before, weights(train(task))) and list(task.losses) == [0.0, 0.0]
    assert task.losses.row_mean() == 0.0 and task.meters[0]._total.tolist() == [0, 0, 0]


def test_updates_of_a_phase():
    step = UpdateStep(3)
    assert [s for s in range(7) if step.ends_group(s, 7)] == [2, 5, 6]
    assert [s for s in range(7) if step.starts_group(s)] == [0, 3, 6]


def test_simulated_batch_must_be_a_multiple():
    with pytest.raises(ComponentError, match=r"simulated_global_batchsize 10 .* 4"):
        make_task(batch=4).set_simulated_global_batchsize(10).prepare()


@pytest.mark.parametrize("simulated", [0, 2])
def test_simulated_batch_below_the_real_one(simulated):
    with pytest.raises(ComponentError, match="not a multiple"):
        make_task(batch=4).set_simulated_global_batchsize(simulated).prepare()


def test_sum_loss_is_averaged_over_a_group():
    task = make_task(train=8, test=None, batch=4, dtype=DOUBLE, lr=0.01).set_simulated_global_batchsize(8)
    task.set_loss(nn.CrossEntropyLoss(reduction="sum"))
    other = make_task(train=8, test=None, batch=8, dtype=DOUBLE, lr=0.005).set_loss(
        nn.CrossEntropyLoss(reduction="sum")
    )
    assert close(train(task), train(other))


def test_clipping_limits_the_norm_of_all_gradients_together():
    norms = []

    def look(task):
        grads = [p.grad for p in task.base_model.parameters() if p.grad is not None]
        norms.append(torch.linalg.vector_norm(torch.cat([g.flatten() for g in grads])).item() if grads else None)

    train(make_task(test=None, hooks=[RecordingHook(look)]).set_clip_grad_norm(0.01))
    steps = [norm for norm in norms if norm is not None]
    assert steps and all(norm == pytest.approx(0.01, rel=1e-3) for norm in steps)


def test_small_gradients_are_not_clipped():
    one, other = train(make_task(test=None)), train(make_task(test=None).set_clip_grad_norm(1e6))
    assert close(one, other, 0.0)


@pytest.mark.parametrize("norm", [0, -1.0])
def test_impossible_norm(norm):
    with pytest.raises(ComponentError, match="clip_grad_norm"):
        make_task().set_clip_grad_norm(norm)


def _toy(scaler, clip=None):
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer, _ = sgd(lr=1.0)
    optimizer.set_param_groups([weight])
    UpdateStep(1, clip, scaler).run((weight**2).sum() / 2, optimizer, 0.0, 0, 1, 1.0)
    return weight.detach()


def test_scaled_gradients_are_unscaled_before_clipping():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert torch.allclose(_toy(scaler, clip=1.0), torch.tensor([3.0, 4.0]) * 0.8)


def test_scaler_updates_like_none():
    assert torch.allclose(_toy(torch.amp.GradScaler("cpu", init_scale=1024.0)), _toy(None))


def test_overflow_skips_the_update_and_lowers_the_scale():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer, _ = sgd(lr=1.0)
    optimizer.set_param_groups([weight])
    UpdateStep(1, None, scaler).run(weight.sum() * float("inf"), optimizer, 0.0, 0, 1, 1.0)
    assert weight.item() == 1.0 and scaler.get_scale() == 512.0


def test_scaler_accumulates():
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    weight = nn.Parameter(torch.tensor([0.0]))
    optimizer, _ = sgd(lr=1.0)
    optimizer.set_param_groups([weight])
    update = UpdateStep(2, 10.0, scaler)
    for step in range(2):
        update.run(weight.sum() * (step + 1), optimizer, 0.0, step, 2, 0.5)
    assert weight.item() == -1.5


def test_the_gradients_of_a_group_are_dropped_before_the_forward_pass_of_the_next():
    task = make_task(train=16, test=None, batch=4).set_simulated_global_batchsize(8)
    kept = []
    task.base_model.register_forward_pre_hook(
        lambda model, _: kept.append([parameter.grad is not None for parameter in model.parameters()])
    )
    train(task)
    assert [any(one) for one in kept] == [False, True, False, True]
