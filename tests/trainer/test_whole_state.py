"""A resumed run has the state of every part: whatever a checkpoint keeps is what it is without an interruption."""

import copy

import pytest
import torch
from torch import nn

from ray_classy.errors import CheckpointError
from ray_classy.hooks import ClassyHook
from ray_classy.meters import AccuracyMeter
from ray_classy.optim import build_optimizer
from ray_classy.tasks import ClassificationTask
from ray_classy.tasks.precision import Precision
from ray_classy.trainer import LocalTrainer
from tests.trainer.test_row_resume import Ledger, Stopped, small_task


class Counting(ClassyHook):
    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def on_step(self, task):
        self.state.steps = getattr(self.state, "steps", 0) + 1
        self.state.sum = getattr(self.state, "sum", 0.0) + float(task.last_batch.loss)


class Weighted(nn.Module):
    """A loss that learns a scale and remembers a running mean, and is no `ClassyLoss`."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

    def forward(self, output, target):
        loss = nn.functional.cross_entropy(output * self.scale, target)
        if self.training:
            self.mean.mul_(0.9).add_(loss.detach(), alpha=0.1)
        return loss


class Remembering(nn.Module):
    """The same without anything to learn."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, output, target):
        self.steps += self.training
        return nn.functional.cross_entropy(output, target) * (1 + 0.01 * self.steps)


class ScaledOnCpu(Precision):
    """Scales losses on a CPU too, and changes the scale every third update."""

    def scaler(self, device):
        return torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)


class Scaled(ClassificationTask):
    precision = ScaledOnCpu("pytorch", "bfloat16")


def full_task(stop=None, loss=Weighted, **options):
    task = small_task(Ledger(stop=stop), batch_norm=True, every=2, cls=Scaled, **options).set_loss(loss())
    task.set_hooks([*task.hooks, Counting()]).set_optimizer(build_optimizer({"name": "adamw", "lr": 0.01}))
    return task


def difference(one, other, path=""):
    """Where two states differ first; None if they are the same."""
    if isinstance(one, torch.Tensor):
        return None if isinstance(other, torch.Tensor) and torch.equal(one, other) else path
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{path}: {one.keys() ^ other.keys()}"
        return next(filter(None, (difference(one[key], other[key], f"{path}.{key}") for key in one)), None)
    if isinstance(one, list | tuple):
        return difference(dict(enumerate(one)), dict(enumerate(other)), path)
    return None if one == other else path


@pytest.mark.parametrize("stop, loss", [(7, Weighted), (13, Remembering), (18, Remembering)])
def test_the_state_of_every_part_is_that_of_a_run_without_interruption(tmp_path, stop, loss):
    calm = full_task(loss=loss)
    LocalTrainer(str(tmp_path), "calm").train(calm)
    with pytest.raises(Stopped):
        LocalTrainer(str(tmp_path), "r").train(full_task(stop, loss))
    resumed = full_task(loss=loss)
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    states = [copy.deepcopy(task.get_classy_state()) for task in (calm, resumed)]
    assert difference(*states) is None
    assert states[0]["amp"]["scale"] != 8.0 and states[0]["hooks"]["Counting"]["steps"] > 26


class Second(AccuracyMeter):
    name = "second"


def test_a_meter_is_not_begun_inside_an_epoch(tmp_path):
    with pytest.raises(Stopped):
        LocalTrainer(str(tmp_path), "r").train(small_task(Ledger(stop=5)))
    with pytest.raises(CheckpointError, match="inside an epoch, with the counts of accuracy so far, and not of second"):
        LocalTrainer(resume=str(tmp_path / "r")).train(small_task().set_meters([AccuracyMeter([1, 2]), Second([1])]))


def test_a_meter_with_other_options_is_refused(tmp_path):
    path = LocalTrainer(str(tmp_path), "r").train(small_task()).path
    with pytest.raises(CheckpointError, match=r"with topk \[1, 2\], this one is 'accuracy' with topk \[1, 3\]"):
        LocalTrainer(resume=path).train(small_task(epochs=3).set_meters([AccuracyMeter([1, 3])]))


def test_a_larger_model_is_refused_with_a_few_of_its_differences(tmp_path):
    path = LocalTrainer(str(tmp_path), "r").train(small_task()).path
    layers = [layer for _ in range(9) for layer in (nn.Linear(6, 6), nn.ReLU())]
    deep = nn.Sequential(*layers, nn.Linear(6, 4)).double()
    with pytest.raises(CheckpointError, match=r"of another shape .*in the state.*in the model") as refused:
        LocalTrainer(resume=path).train(small_task(epochs=3).set_model(deep))
    message = str(refused.value)
    assert "\n" not in message and ", ...)" in message and len(message) < 1200


def test_a_loss_with_other_entries_is_refused_in_one_line(tmp_path):
    path = LocalTrainer(str(tmp_path), "r").train(full_task()).path
    with pytest.raises(CheckpointError, match=r"loss does not fit Remembering: .*steps.*scale.*Resume with the loss"):
        LocalTrainer(resume=path).train(full_task(loss=Remembering, epochs=3))
