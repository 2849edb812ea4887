"""Tasks that derive from ClassyTask alone, under every trainer and in a sweep."""

import json
import os

import pytest
import torch

from ray_classy.trainer import DistributedTrainer, LocalTrainer, RayTrainer
from tests.tasks.line_task import LineTask


class UncountedLine(LineTask):
    """Counts neither its phases nor its steps; the trainer does."""

    def on_phase_start(self):
        self.losses, self.steps = [], 0

    def train_step(self):
        steps, self.num_train_steps = self.num_train_steps, 0
        try:
            super().train_step()
        finally:
            self.num_train_steps = steps

    def get_classy_state(self, deep_copy=False):
        return {"weight": self.weight.clone(), "bias": self.bias.clone()}

    def set_classy_state(self, state):
        self.weight, self.bias = state["weight"].clone(), state["bias"].clone()


def same_line(first, second):
    return torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)


@pytest.fixture
def straight(tmp_path):
    """The task after an uninterrupted run in this process."""
    task = LineTask(num_epochs=3)
    LocalTrainer(str(tmp_path), "straight").train(task)
    return task


@pytest.mark.parametrize("cls", [LineTask, UncountedLine])
def test_a_run_in_this_process_resumes(cls, tmp_path, straight):
    with pytest.raises(ZeroDivisionError):
        LocalTrainer(str(tmp_path), "r").train(cls(num_epochs=3, fail_at=15))
    assert os.path.isdir(tmp_path / "r" / "epoch_0001-step_000010")
    resumed = cls(num_epochs=3)
    result = LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert same_line(resumed, straight) and resumed.num_train_steps == 30
    assert [line["phase_idx"] for line in result.metrics_history] == [0, 1, 2]
    assert result.checkpoint == str(tmp_path / "r" / "epoch_0003-step_000030")


def test_a_run_under_torchrun(tmp_path, straight):
    task = LineTask(num_epochs=3)
    result = DistributedTrainer(str(tmp_path)).train(task)
    assert same_line(task, straight) and result.metrics["train"]["loss"] == straight.phase_metrics()["loss"]


@pytest.mark.ray
@pytest.mark.parametrize("cls", [pytest.param(LineTask, marks=pytest.mark.full), UncountedLine])
def test_a_run_on_ray_resumes(cls, ray_cluster, tmp_path, straight):
    from ray.train import ScalingConfig

    LocalTrainer(str(tmp_path), "r").train(cls(num_epochs=1))
    resumed = cls(num_epochs=3)
    result = RayTrainer(ScalingConfig(num_workers=2), resume=str(tmp_path / "r")).train(resumed)
    assert same_line(resumed, straight)
    assert result.checkpoint == str(tmp_path / "r" / "epoch_0003-step_000030")


@pytest.mark.ray
def test_a_sweep(ray_cluster, tmp_path):
    from ray_classy.tune import TaskTuner

    config = {
        "name": "fit_a_line",
        "imports": ["tests.tasks.line_task"],
        "num_epochs": 2,
        "lr": {"search": "grid_search", "values": [0.01, 0.3]},
        "tune": {"metric": "train.loss", "mode": "min"},
        "ray": {"storage_path": str(tmp_path), "name": "sweep"},
    }
    result = TaskTuner(config, progress=False).fit()
    assert result.best.params == {"lr": 0.3} and [trial.epoch for trial in result.trials] == [2, 2]
    status = json.loads((tmp_path / "sweep" / "t0001" / "run.json").read_text())["status"]
    assert status == "finished" and os.path.isfile(f"{result.best_checkpoint}/checkpoint.torch")
    assert os.path.exists(tmp_path / "sweep" / "t0001" / "last") and os.path.exists(
        tmp_path / "sweep" / "t0001" / "best"
    )
