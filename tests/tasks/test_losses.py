import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.hooks import LossLrMeterLoggingHook
from ray_classy.tasks import ClassificationTask
from ray_classy.tasks.loss_log import LossLog
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, Vectors, make_task, train, vectors


class Waits(TorchDispatchMode):
    """Counts the operations that bring a number from the device to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        names = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero")
        self.count += function._schema.name in names
        return function(*args, **(kwargs or {}))


class Exploding(ClassificationTask):
    """Its loss is NaN in one step of one phase."""

    where_it_explodes = (0, 2)

    def compute_loss(self, model_output, sample):
        loss = super().compute_loss(model_output, sample)
        here = (self.phase_idx, self._eval_steps if not self.train else self.steps_in_phase)
        return loss * math.nan if here == self.where_it_explodes else loss


@pytest.mark.parametrize("train_phase", [True, False])
def test_steps_do_not_wait_for_the_device(train_phase):
    task = make_task(train=40, test=40, momentum=0.9, schedule={"name": "cosine", "start_value": 0.1, "end_value": 0})
    task.set_clip_grad_norm(1.0).set_simulated_global_batchsize(8).set_test_only(not train_phase)
    task.prepare()
    task.on_start()
    task.on_phase_start()
    task.step()
    with Waits() as waits:
        for _ in range(5):
            task.step()
    assert waits.count == 0 and len(task.losses) == 6


def test_weighted_steps_do_not_wait_for_the_device():
    task = make_task(train=40, test=None).set_simulated_global_batchsize(8)
    task.set_loss(nn.CrossEntropyLoss(torch.ones(4), ignore_index=3)).prepare()
    task.on_phase_start()
    task.step()
    with Waits() as waits:
        for _ in range(5):
            task.step()
    assert waits.count == 0


def test_test_loss_does_not_depend_on_the_batch_size():
    def measured(batch):
        task = make_task(train=None, test=None).set_test_only(True)
        task.set_loss(nn.CrossEntropyLoss(torch.tensor([0.1, 1, 3, 8]), ignore_index=2))
        train(task.set_dataset(vectors(22, batch), "test"))
        return task.losses.row_mean(), task.meters[0].value

    means = [measured(batch) for batch in (1, 4, 12)]
    assert [mean for mean, _ in means] == pytest.approx([means[0][0]] * 3, rel=1e-6)
    assert [value for _, value in means] == [means[0][1]] * 3


def test_meters_do_not_count_the_rows_that_the_loss_ignores():
    task = make_task(test=None).set_loss(nn.CrossEntropyLoss(ignore_index=2))
    labels = [Vectors(24)[row]["target"] for row in range(24)]
    assert train(task).meters[0]._total[-1] == sum(label != 2 for label in labels)


def test_mixup_of_rows_without_a_label():
    mixup = MixupTransform(1.0, num_classes=3, ignore_index=-1)
    target = mixup._mix_target(torch.tensor([0, -1, -1, 2]), torch.tensor([0.75]))
    assert target.tolist() == [[0.75, 0, 0.25], [0, 0, 0], [0, 0, 0], [0.25, 0, 0.75]]


def test_a_wait_would_be_noticed():
    with Waits() as waits:
        float(torch.ones(1))
    assert waits.count == 1


def test_mixup_waits_for_nothing_on_the_device():
    # Its draws are on the host; those of the batch's tensors must not come back from the device.
    task = make_task(train=40, test=None)
    task.set_mixup_transform(_Watched(1.0, num_classes=4))
    task.prepare()
    task.on_phase_start()
    with Waits() as waits:
        for _ in range(4):
            task.step()
    assert waits.count <= task.mixup_transform.draws


class _Watched(MixupTransform):
    """Counts the numbers that its draws, made on the host, are turned into."""

    draws = 0

    def __call__(self, sample):
        rows = sample["input"].shape[0]
        with Waits() as waits:
            mixed = super().__call__({**sample, "input": sample["input"].reshape(rows, 1, 2, 3)})
        self.draws += waits.count
        return {**mixed, "input": mixed["input"].reshape(rows, -1)}


def test_losses_are_floats_of_this_phase():
    hook = RecordingHook(lambda task: list(task.losses))
    train(make_task(train=8, test=4, hooks=[hook]))
    assert [len(losses) for losses in hook.seen("on_step")] == [1, 2, 1]
    assert all(type(loss) is float for losses in hook.seen("on_step") for loss in losses)


def test_log_is_a_sequence():
    log = LossLog([1.0])
    log.append(torch.tensor(2.0))
    log.append(3.0)
    assert len(log) == 3 and log == [1.0, 2.0, 3.0] and log[-1] == 3.0 and log[1:] == [2.0, 3.0] and 2.0 in log


def test_mean_counts_rows():
    log = LossLog()
    log.append(torch.tensor(1.0), rows=3)
    log.append(torch.tensor(5.0), rows=1)
    assert log.row_mean() == 2.0 and log.row_mean(last=1) == 5.0 and math.isnan(LossLog().row_mean())


def test_weights_on_the_device_are_fetched_with_the_losses():
    log = LossLog()
    log.append(torch.tensor(1.0), rows=torch.tensor(3))
    log.append(torch.tensor(5.0), rows=1)
    log.append(torch.tensor(0.0), rows=torch.tensor(0.0))
    assert log.rows == [3.0, 1.0, 0.0] and log.row_mean() == 2.0


def test_loss_of_a_borrowed_row_does_not_count():
    log = LossLog()
    log.append(torch.tensor(1.0), rows=2)
    log.append(torch.tensor(math.nan), rows=0)
    log.check_finite("train phase 0")
    assert log.row_mean() == 1.0


def test_log_holds_no_graph():
    log = LossLog()
    log.append(torch.ones(1, requires_grad=True).sum())
    assert not log._pending[0].requires_grad


def test_nan_stops_the_run_at_the_end_of_its_phase():
    hook = RecordingHook()
    with pytest.raises(FloatingPointError, match="nan in step 2 of train phase 0"):
        train(make_task(cls=Exploding, hooks=[hook]))
    assert len(hook.seen("on_step")) == 6 and hook.seen("on_phase_end") == []


def test_nan_in_a_test_phase():
    class InTest(Exploding):
        where_it_explodes = (1, 1)

    with pytest.raises(FloatingPointError, match="step 1 of test phase 0"):
        train(make_task(cls=InTest))


def test_nan_is_never_in_a_checkpoint(tmp_path):
    class Late(Exploding):
        where_it_explodes = (2, 0)

    with pytest.raises(FloatingPointError):
        LocalTrainer(str(tmp_path), "r").train(make_task(cls=Late, epochs=3))
    assert [path.name for path in tmp_path.glob("r/epoch_*")] == ["epoch_0001-step_000006"]


def test_nan_is_never_in_a_checkpoint_inside_a_phase(tmp_path):
    task = make_task(train=40, cls=Exploding).set_checkpoint_every(steps=2, minutes=None)
    with pytest.raises(FloatingPointError, match="nan in step 2 of train phase 0"):
        LocalTrainer(str(tmp_path), "r").train(task)
    assert [path.name for path in tmp_path.glob("r/epoch_*")] == ["epoch_0000-step_000002"]


def test_log_hook_finds_the_nan_at_its_next_line():
    hook = RecordingHook()
    with pytest.raises(FloatingPointError, match="step 2"):
        train(make_task(train=40, cls=Exploding, hooks=[hook, LossLrMeterLoggingHook(log_freq=4)]))
    assert len(hook.seen("on_step")) == 4


def test_loss_that_is_given_is_looked_at():
    task = make_task()
    task.prepare()
    task.on_phase_start()
    task.step()
    task.check_inf_nan(torch.ones(1, requires_grad=True).sum())
    with pytest.raises(FloatingPointError, match="inf in step 1 of train phase 0"):
        task.check_inf_nan(torch.tensor(math.inf))


def test_list_that_is_assigned_becomes_a_log():
    task = make_task()
    task.losses = [1.0, 2.0]
    task.losses.append(torch.tensor(3.0), rows=2)
    assert isinstance(task.losses, LossLog) and task.losses == [1.0, 2.0, 3.0]


def test_numpy_takes_the_mean_over_steps():
    assert np.mean(LossLog([1.0, 2.0])) == 1.5
