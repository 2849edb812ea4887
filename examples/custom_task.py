"""Trains a task that is not a classifier: a direct subclass of ClassyTask that fits a line.

    python examples/custom_task.py           on two Ray workers
    python examples/custom_task.py --local   in this process, without Ray

Expected: `y = 2.00 x + 1.00` within seconds. The run has a folder, checkpoints and metrics like any other, and is
resumed by `LocalTrainer(resume=PATH)` or `RayTrainer(resume=PATH)`.
"""

import sys
from typing import Any

import torch

from ray_classy.distributed import all_reduce_mean, get_rank, get_world_size
from ray_classy.tasks import ClassyTask, register_task
from ray_classy.trainer import LocalTrainer, RayTrainer

STEPS = 10


@register_task("fit_a_line")
class LineTask(ClassyTask):
    """Fits y = 2 x + 1 by gradient descent. Each rank has a part of the points.

    Args:
        num_epochs: train phases, of ten steps each.
        lr: learning rate.
    """

    def __init__(self, num_epochs: int = 4, lr: float = 0.3) -> None:
        super().__init__()
        self.num_epochs, self.lr = num_epochs, lr
        self.phases = [{"train": True}] * num_epochs
        self.line = torch.zeros(2)
        self.steps = 0

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LineTask":
        return cls(config["num_epochs"], config.get("lr", 0.3))

    # -- progress and state: what a checkpoint needs

    @property
    def where(self) -> float:
        return (self.train_phase_idx + self.steps / STEPS) / self.num_epochs

    def done_training(self) -> bool:
        return self.train_phase_idx + 1 >= self.num_epochs

    def get_classy_state(self, deep_copy: bool = False) -> dict[str, Any]:
        progress = {name: getattr(self, name) for name in ("train", "phase_idx", "train_phase_idx", "num_train_steps")}
        return {**progress, "line": self.line.clone()}

    def set_classy_state(self, state: dict[str, Any]) -> None:
        self.line = state["line"].clone()
        self.phase_idx, self.train_phase_idx = state["phase_idx"], state["train_phase_idx"]
        self.num_train_steps = state["num_train_steps"]

    # -- training: called by the trainer in this order

    def prepare(self, num_dataloader_workers: int = 0, dataloader_mp_context: str | None = None) -> None:
        points = torch.linspace(-1, 1, 100)[get_rank() :: get_world_size()]
        self.points, self.targets = points, 2 * points + 1

    def on_start(self) -> None:
        self._run_hooks("on_start")

    def on_phase_start(self) -> None:
        self.phase_idx, self.train_phase_idx = self.phase_idx + 1, self.train_phase_idx + 1
        self.losses, self.steps = [], 0
        self._run_hooks("on_phase_start")

    def train_step(self) -> None:
        if self.steps == STEPS:
            raise StopIteration
        line = self.line.requires_grad_()
        loss = (line[0] * self.points + line[1] - self.targets).square().mean()
        (gradient,) = torch.autograd.grad(loss, line)
        self.line = line.detach() - self.lr * all_reduce_mean(gradient)
        self.losses.append(loss.detach())
        self.steps, self.num_train_steps = self.steps + 1, self.num_train_steps + 1

    def eval_step(self) -> None:
        raise StopIteration

    def on_phase_end(self) -> None:
        self._run_hooks("on_phase_end")

    def on_end(self) -> None:
        self._run_hooks("on_end")

    def _run_hooks(self, point: str) -> None:
        for hook in self.hooks:
            getattr(hook, point)(self)


def build_trainer(local: bool) -> LocalTrainer | RayTrainer:
    if local:
        return LocalTrainer()
    from ray.train import ScalingConfig

    return RayTrainer(scaling_config=ScalingConfig(num_workers=2))


if __name__ == "__main__":
    task = LineTask()
    result = build_trainer("--local" in sys.argv).train(task)
    print(f"y = {task.line[0]:.2f} x + {task.line[1]:.2f}")
    print(f"checkpoint: {result.checkpoint}")
