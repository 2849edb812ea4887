"""The losses and the last batch of the current phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import torch

from ray_classy.distributed import all_reduce_max, all_reduce_sum, is_distributed_training_run


class LastBatchInfo(NamedTuple):
    """The batch of the last step; tensors are on the device of the step.

    Attributes:
        loss: the loss, a scalar tensor.
        output: what the model returned.
        target: the target as the dataset gave it, before mixup.
        sample: the sample as the model saw it.
        step_data: `{"sample_fetch_time": seconds}`.
    """

    loss: torch.Tensor
    output: Any
    target: Any
    sample: dict[str, Any]
    step_data: dict[str, Any]


class LossLog(Sequence[float]):
    """The losses of a phase's steps: a sequence whose floats are fetched from the device when they are read.

    Args:
        values: losses of steps that were made already.
        rows: number of rows that each loss is the mean of, or the sum of their weights; 1 each if empty.
        shared: number of first losses that are averages over all ranks already.
    """

    def __init__(self, values: Sequence[float] = (), rows: Sequence[float] = (), shared: int = 0) -> None:
        self._values: list[float] = [float(value) for value in values]
        self._rows: list[float] = list(rows) or [1.0] * len(self._values)
        self._pending: list[torch.Tensor] = []
        self._pending_rows: list[torch.Tensor] = []  # of the last steps, as many as `_rows` lacks
        self._shared = shared

    def append(self, loss: torch.Tensor | float, rows: torch.Tensor | float = 1.0) -> None:
        """Adds a step's loss, the mean over `rows` rows; tensors stay on their device until the log is read."""
        if isinstance(loss, torch.Tensor):
            self._pending.append(loss.detach())
        else:
            self._fetch()
            self._values.append(float(loss))
        if isinstance(rows, torch.Tensor):
            self._pending_rows.append(rows.detach())
        else:
            if self._pending_rows:
                self._fetch_rows()
            self._rows.append(rows)

    def _fetch(self) -> None:
        if self._pending:
            self._values.extend(_numbers(self._pending))
            self._pending.clear()
        self._fetch_rows()

    def _fetch_rows(self) -> None:
        if self._pending_rows:
            self._rows.extend(_numbers(self._pending_rows))
            self._pending_rows.clear()

    def __len__(self) -> int:
        return len(self._values) + len(self._pending)

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        self._fetch()
        return self._values[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"LossLog({list(self)})"

    @property
    def rows(self) -> list[float]:
        """Number of rows that each step's loss is the mean of, or the sum of their weights."""
        self._fetch_rows()
        return list(self._rows)

    def row_mean(self, last: int | None = None) -> float:
        """Returns the mean over all rows, or over those of the `last` steps: NaN without a step, 0 without a row.

        It is not called `mean`, because `numpy.mean(losses)`, the mean over steps, would call such a method.
        """
        self._fetch()
        values, rows = (self._values, self._rows) if last is None else (self._values[-last:], self._rows[-last:])
        weight = math.fsum(rows)
        if not weight:
            return 0.0 if values else math.nan
        return math.fsum(v * r for v, r in zip(values, rows, strict=True) if r) / weight

    def check_finite(self, phase: str) -> None:
        """Checks the losses of all steps.

        Args:
            phase: name of the phase, for the message.

        Raises:
            FloatingPointError: one is infinite or not a number; the message names the first such step.
        """
        self._fetch()
        for step, (value, rows) in enumerate(zip(self._values, self._rows, strict=True)):
            if rows and not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss is {value} in step {step} of {phase} (all counted from 0): lower the learning rate, "
                    f"clip gradients (clip_grad_norm), or look for bad values in the data"
                )

    def synchronize(self) -> None:
        """Replaces each step's loss by its mean over the rows of all ranks that made the step."""
        self._fetch()
        if not is_distributed_training_run():
            return
        before = self._shared
        steps = int(all_reduce_max(torch.tensor(len(self) - before, dtype=torch.int64)))
        table = torch.zeros(2, steps, dtype=torch.float64)
        for step, (value, rows) in enumerate(zip(self._values[before:], self._rows[before:], strict=True)):
            table[0, step] = value * rows if rows else 0.0
            table[1, step] = rows
        all_reduce_sum(table)
        counts = table[1].tolist()
        means = [total / rows if rows else 0.0 for total, rows in zip(table[0].tolist(), counts, strict=True)]
        self._values[before:], self._rows[before:] = means, counts
        self._shared = len(self._values)

    def synchronized(self) -> LossLog:
        """Returns a synchronized copy; every rank must call it."""
        self._fetch()
        copied = LossLog(self._values, self._rows, self._shared)
        copied.synchronize()
        return copied


def _numbers(tensors: list[torch.Tensor]) -> list[float]:
    """Returns scalars, and the means of what has several elements, from any device in one piece."""
    if len({(one.shape, one.dtype) for one in tensors}) > 1 or tensors[0].ndim:
        tensors = [one.double().mean() for one in tensors]
    return torch.stack(tensors).double().tolist()


class LossCurve:
    """A descriptor for the attribute `losses` of a task: a sequence of numbers that is assigned becomes a `LossLog`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        if task is None:
            return self
        losses = task.__dict__.get(self._name)
        return losses if losses is not None else task.__dict__.setdefault(self._name, LossLog())

    def __set__(self, task: Any, losses: Sequence[float]) -> None:
        task.__dict__[self._name] = losses if isinstance(losses, LossLog) else LossLog(losses)
