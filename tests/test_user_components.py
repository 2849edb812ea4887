"""Components of a user's module, written as for Classy Vision: a loss, a model, a dataset, a hook and a task."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_classy.registry import Registry
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.helpers import free_port

ROOT = Path(__file__).parent.parent
MODULE = """
import torch
from torch import nn
from ray_classy.dataset import ClassyDataset, register_dataset
from ray_classy.dataset.transforms import build_transforms
from ray_classy.hooks import ClassyHook, register_hook
from ray_classy.losses import ClassyLoss, register_loss
from ray_classy.models import ClassyModel, register_model
from ray_classy.tasks import ClassificationTask, register_task


@register_loss("moved_loss")
class MovedLoss(ClassyLoss):
    def __init__(self, scale):
        super().__init__()
        self.loss, self.scale = nn.CrossEntropyLoss(), scale

    @classmethod
    def from_config(cls, config):
        return cls(config["scale"])

    def forward(self, output, target):
        return self.scale * self.loss(output, target)


@register_model("moved_model")
class MovedModel(ClassyModel):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    @classmethod
    def from_config(cls, config):
        return cls(config["width"])

    def forward(self, x):
        return self.layers(x)


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        values = torch.sin(torch.arange(4) + 3.0 * index)
        return {"input": values, "target": int(values.sum() > 0)}


@register_dataset("moved_dataset")
class MovedDataset(ClassyDataset):
    @classmethod
    def from_config(cls, config):
        transforms, batch, shuffle, rows = cls.parse_config(config)
        return cls(Rows(), batch, shuffle, build_transforms(transforms) if transforms else None, rows)


@register_hook("moved_hook")
class MovedHook(ClassyHook):
    on_start = on_phase_start = on_step = on_phase_end = ClassyHook._noop

    def __init__(self, file):
        super().__init__()
        self.file = file

    def on_end(self, task):
        with open(self.file, "a") as file:
            file.write(f"{task.ended} {task.num_updates}\\n")


@register_task("moved_task")
class MovedTask(ClassificationTask):
    ended = 0

    def on_phase_end(self):
        super().on_phase_end()
        self.ended += 1
"""
SCRIPT = """
import json, sys
import moved_module
from ray_classy.tasks import build_task
from ray_classy.trainer import DistributedTrainer, RayTrainer

if __name__ == "__main__":
    with open("config.json") as file:
        task = build_task(json.load(file))
    if sys.argv[1] == "ray":
        from ray.train import ScalingConfig
        trainer = RayTrainer(ScalingConfig(num_workers=2), storage_path="runs")
    else:
        trainer = DistributedTrainer("runs", "r")
    trainer.train(task)
"""


@pytest.fixture
def config(tmp_path):
    """The config of such a project, whose module, script and config lie in the test's folder."""
    rows = {"name": "moved_dataset", "batchsize_per_replica": 5, "use_shuffle": True, "num_samples": None}
    config = {
        "name": "moved_task",
        "num_epochs": 2,
        "loss": {"name": "moved_loss", "scale": 0.5},
        "dataset": {"train": rows, "test": {**rows, "use_shuffle": False}},
        "meters": {"accuracy": {"topk": [1]}},
        "model": {"name": "moved_model", "width": 8},
        "optimizer": {"name": "sgd", "momentum": 0.9, "param_schedulers": {"lr": {"name": "constant", "value": 0.1}}},
        "hooks": [{"name": "moved_hook", "file": str(tmp_path / "ended.txt")}],
    }
    (tmp_path / "moved_module.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "config.json").write_text(json.dumps(config))
    return config


def run(folder, *words):
    """Runs a Python program in `folder`, and returns what the hook wrote in each process."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return (folder / "ended.txt").read_text().splitlines()


def test_a_notebook_registers_and_trains_them_twice(config, tmp_path):
    before = {kind: dict(registry._classes) for kind, registry in Registry.all.items()}
    try:
        for turn in range(2):
            exec(compile(MODULE, "<cell>", "exec"), {"__name__": "__main__"})
            task = build_task(config)
            LocalTrainer(str(tmp_path / "runs"), f"r{turn}").train(task)
        assert (tmp_path / "ended.txt").read_text() == "4 80\n4 80\n"
    finally:
        for kind, registry in Registry.all.items():
            registry._classes = before.get(kind, {})


@pytest.mark.full
def test_torchrun_trains_them(config, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    assert run(tmp_path, *torchrun, "script.py", "torchrun") == ["4 80", "4 80"]


@pytest.mark.full
@pytest.mark.ray
def test_two_ray_workers_train_them(config, tmp_path):
    assert run(tmp_path, "script.py", "ray") == ["4 80", "4 80"]


@pytest.mark.full
@pytest.mark.ray
def test_a_sweep_trains_them_where_imports_names_the_module(config, tmp_path):
    config["imports"] = ["moved_module"]
    config["model"]["width"] = {"search": "grid_search", "values": [4, 8]}
    config["tune"] = {"metric": "test.accuracy.top_1"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run(tmp_path, "-m", "ray_classy", "tune", "config.json") == ["4 80", "4 80"]
