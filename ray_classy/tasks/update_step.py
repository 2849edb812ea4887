"""Updates the parameters from a loss: scale, accumulate, clip, step."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from ray_classy.distributed import get_world_size, is_fsdp_module
from ray_classy.optim import ClassyOptimizer


class UpdateStep:
    """Applies the optimizer once per `period` train steps of a phase, and at the end of the phase.

    Every row of a group of accumulated steps has the same weight, whatever its step and rank: the loss of a step, a
    mean over its rows, is multiplied by its share of the rows of the group (times the number of ranks, because
    gradients are averaged over ranks). Groups never cross the end of a phase.

    Args:
        period: train steps per update.
        clip_grad_norm: largest L2 norm of all gradients together, above 0; None to not clip.
        scaler: scales the loss against underflow; None to not scale.
    """

    def __init__(
        self, period: int = 1, clip_grad_norm: float | None = None, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        self.period = period
        self.clip_grad_norm = clip_grad_norm
        self.scaler = scaler

    def starts_group(self, step: int) -> bool:
        """Returns whether train step `step` of a phase (from 0) is the first of its group."""
        return step % self.period == 0

    def ends_group(self, step: int, num_steps: int) -> bool:
        """Returns whether the optimizer is applied after step `step` of a phase of `num_steps`."""
        return (step + 1) % self.period == 0 or step + 1 == num_steps

    def loss_factor(self, step: int, num_steps: int, iterator: Any, reduction: str = "mean") -> float:
        """Returns the factor for the loss of a step that gives every row of the group the same weight."""
        first = step - step % self.period
        last = min(first + self.period, num_steps)
        if not hasattr(iterator, "share"):  # an iterator of the user's: its batches count as full
            return 1.0 / (last - first)
        if reduction == "sum":
            return 1.0 / (last - first) if iterator.share.rows else 0.0
        group_rows = sum(iterator.plan.share(k).global_rows for k in range(first, last))
        return iterator.share.rows * get_world_size() / group_rows

    def gradient_sync(self, model: nn.Module, step: int, num_steps: int) -> contextlib.AbstractContextManager:
        """Returns the context of a step's forward and backward pass; the last step of a group exchanges gradients."""
        if is_fsdp_module(model):
            model.set_requires_gradient_sync(self.ends_group(step, num_steps))
        if isinstance(model, nn.parallel.DistributedDataParallel) and not self.ends_group(step, num_steps):
            return model.no_sync()
        return contextlib.nullcontext()

    def run(
        self, loss: torch.Tensor, optimizer: ClassyOptimizer, where: float, step: int, num_steps: int, factor: float
    ) -> None:
        """Runs the backward pass of one step, and the update if the step ends a group.

        Args:
            loss: scalar loss of the step.
            optimizer: the optimizer of the task.
            where: progress of the run, in [0, 1), at which schedules are evaluated.
            step: number of the step in its phase, from 0.
            num_steps: number of steps in the phase.
            factor: from `loss_factor`.
        """
        if self.starts_group(step):
            optimizer.zero_grad()
        if factor != 1.0:
            loss = loss * factor
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if not self.ends_group(step, num_steps):
            return
        if self.clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)  # type: ignore[arg-type]  # it has the param_groups that are needed
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm)
        if self.scaler is None:
            optimizer.step(where=where)
        else:
            self.scaler.step(optimizer, where=where)  # type: ignore[arg-type]
            self.scaler.update()
