"""Updates the parameters from a loss: scale, accumulate, clip, step."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import nn

from ray_classy.distributed import all_reduce_sum, get_world_size, is_fsdp_module
from ray_classy.optim import ClassyOptimizer
from ray_classy.tasks.precision import NO_CONTEXT
from ray_classy.torch_compat import scale_gradients


class Part(NamedTuple):
    """A part of the batch of a step, whose forward and backward pass are run by themselves.

    Attributes:
        first, last: whether it is the first or the last part of the batch.
        fraction: its share of the rows of the batch.
    """

    first: bool = True
    last: bool = True
    fraction: float = 1.0


WHOLE = Part()


class UpdateStep:
    """Applies the optimizer once per `period` train steps of a phase, and at the end of the phase.

    The update of a group of accumulated steps is that of one batch of its rows, whatever the step and rank of a row:
    the loss of a step, a mean over its rows, is multiplied by its share of the rows of the group (times the number of
    ranks, because gradients are averaged over ranks). Rows that a loss weighs differently are only known when all are
    read: then the weights of all ranks are added up before the backward pass; in a group of several steps the gradients
    are divided once, at its end, by the weight of all its rows. Groups never cross the end of a phase.

    Args:
        period: train steps per update.
        clip_grad_norm: largest L2 norm of all gradients together, above 0; None to not clip.
        scaler: scales the loss against underflow; None to not scale.

    Attributes:
        part: the part of the current step's batch that the next loss is of.
    """

    def __init__(
        self, period: int = 1, clip_grad_norm: float | None = None, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        self.period = period
        self.clip_grad_norm = clip_grad_norm
        self.scaler = scaler
        self.part = WHOLE
        self._begun = False
        self._weight: torch.Tensor | None = None  # of this rank's rows in the current group

    def starts_group(self, step: int) -> bool:
        """Returns whether train step `step` of a phase (from 0) is the first of its group."""
        return step % self.period == 0 and self.part.first

    def ends_group(self, step: int, num_steps: int) -> bool:
        """Returns whether the optimizer is applied after step `step` of a phase of `num_steps`."""
        return ((step + 1) % self.period == 0 or step + 1 == num_steps) and self.part.last

    def group_rows(self, step: int, num_steps: int, iterator: Any) -> float:
        """Returns the planned rows of all ranks in the group of a step; each batch of a user's iterator counts as 1."""
        first = step - step % self.period
        last = min(first + self.period, num_steps)
        if not hasattr(iterator, "share"):
            return (last - first) * get_world_size()
        if last == first + 1:
            return iterator.plan.share(first).global_rows
        return sum(iterator.plan.share(k).global_rows for k in range(first, last))

    def loss_factor(self, step: int, num_steps: int, iterator: Any, reduction: str = "mean") -> float:
        """Returns the factor for the loss of a step that gives every row of the group the same weight.

        Args:
            step: number of the step in its phase, from 0.
            num_steps: number of steps in the phase.
            iterator: over the batches of the phase.
            reduction: of the loss; "weighted" if the factor is for the weight of its rows, instead of their number.
        """
        if reduction == "weighted":
            return get_world_size() / self.group_rows(step, num_steps, iterator)
        rows = iterator.share.rows if hasattr(iterator, "share") else 1
        if reduction == "sum":
            first = step - step % self.period
            return 1.0 / (min(first + self.period, num_steps) - first) if rows else 0.0
        return rows * self.part.fraction * get_world_size() / self.group_rows(step, num_steps, iterator)

    def begin(self, model: nn.Module, optimizer: ClassyOptimizer, step: int, num_steps: int) -> AbstractContextManager:
        """Begins a step, and returns the context of its forward and backward pass.

        The first step of a group drops the gradients of the group before, which would take memory beside the
        activations of the forward pass; the last step exchanges gradients.
        """
        self._drop_gradients(optimizer, step)
        self._begun = True
        exchanges = self.ends_group(step, num_steps)
        if is_fsdp_module(model):
            model.set_requires_gradient_sync(exchanges)
        if not exchanges and isinstance(model, nn.parallel.DistributedDataParallel):
            return model.no_sync()
        return NO_CONTEXT

    def run(
        self,
        loss: torch.Tensor,
        optimizer: ClassyOptimizer,
        where: float,
        step: int,
        num_steps: int,
        factor: float,
        weight: torch.Tensor | None = None,
    ) -> None:
        """Runs the backward pass of one step, and the update if the step ends a group.

        Args:
            loss: scalar loss of the step.
            optimizer: the optimizer of the task.
            where: progress of the run, in [0, 1), at which schedules are evaluated.
            step: number of the step in its phase, from 0.
            num_steps: number of steps in the phase.
            factor: from `loss_factor`.
            weight: what the mean of this loss divided by; None if that is the number of rows.
        """
        if not self._begun:  # by a train step of the user's
            self._drop_gradients(optimizer, step)
        self._begun = False
        ends = self.ends_group(step, num_steps)
        if weight is None:
            loss = loss if factor == 1.0 else loss * factor
        elif not (self.starts_group(step) and ends):
            weight = weight.double()
            self._weight = weight if self._weight is None else self._weight + weight
            loss = loss * (weight * factor).to(loss.dtype)
        elif get_world_size() > 1:  # in one process, the mean over the rows of this batch is what the update needs
            total = all_reduce_sum(weight.double().clone())
            loss = loss * (get_world_size() * weight / total).masked_fill(total == 0, 0).to(loss.dtype)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if not ends:
            return
        if self._weight is not None:
            total = all_reduce_sum(self._weight.clone())
            scale_gradients(_parameters(optimizer), (get_world_size() / (total * factor)).masked_fill(total == 0, 0))
        if self.clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)  # type: ignore[arg-type]  # it has the param_groups that are needed
            nn.utils.clip_grad_norm_(_parameters(optimizer), self.clip_grad_norm)
        if self.scaler is None:
            optimizer.step(where=where)
        else:
            self.scaler.step(optimizer, where=where)  # type: ignore[arg-type]
            self.scaler.update()

    def _drop_gradients(self, optimizer: ClassyOptimizer, step: int) -> None:
        if self.starts_group(step):
            optimizer.zero_grad()
            self._weight = None


def _parameters(optimizer: ClassyOptimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
