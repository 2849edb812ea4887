"""A direct subclass of ClassyTask that fits a line in ten steps per phase: the least that a trainer can drive."""

import torch

from ray_classy.tasks import ClassyTask, register_task


@register_task("fit_a_line")
class LineTask(ClassyTask):
    """Fits `y = 2 x + 1` by gradient descent, `num_epochs` phases of ten steps."""

    def __init__(self, lr=0.3, num_epochs=2, fail_at=None):
        super().__init__()
        self.lr, self.num_epochs, self.fail_at = lr, num_epochs, fail_at
        self.weight, self.bias = torch.zeros(()), torch.zeros(())
        self.losses = []
        self.steps = 0

    @classmethod
    def from_config(cls, config):
        return cls(config.get("lr", 0.3), config.get("num_epochs", 2))

    @property
    def where(self):
        return (self.train_phase_idx + self.steps / 10) / self.num_epochs

    def done_training(self):
        return self.train_phase_idx + 1 >= self.num_epochs

    def get_classy_state(self, deep_copy=False):
        line = {"weight": self.weight.clone(), "bias": self.bias.clone()}
        return {**line, "train": True, "phase_idx": self.phase_idx, "train_phase_idx": self.train_phase_idx}

    def set_classy_state(self, state):
        self.weight, self.bias = state["weight"].clone(), state["bias"].clone()
        self.phase_idx, self.train_phase_idx = state["phase_idx"], state["train_phase_idx"]

    def prepare(self, num_dataloader_workers=0, dataloader_mp_context=None):
        self.steps = 0

    def on_start(self):
        pass

    def on_phase_start(self):
        self.phase_idx, self.train_phase_idx = self.phase_idx + 1, self.train_phase_idx + 1
        self.losses, self.steps = [], 0

    def train_step(self):
        if self.steps == 10:
            raise StopIteration
        if self.fail_at == 10 * self.train_phase_idx + self.steps:
            raise ZeroDivisionError
        x = torch.linspace(-1, 1, 9)
        error = self.weight * x + self.bias - (2 * x + 1)
        self.weight, self.bias = self.weight - self.lr * 2 * (error * x).mean(), self.bias - self.lr * 2 * error.mean()
        self.losses.append(float(error.square().mean()))
        self.steps, self.num_train_steps = self.steps + 1, self.num_train_steps + 1

    def eval_step(self):
        raise StopIteration

    def on_phase_end(self):
        pass

    def on_end(self):
        pass
