"""Measures the steps of a run on the primary rank, without waiting for the device but where a line is due."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from statistics import fmean
from typing import Any

import torch

from ray_classy.errors import RayClassyError
from ray_classy.tasks import ClassyTask
from ray_classy.tasks.samples import rows_consumed
from ray_classy.trainer.progress_line import Figures, phase_title

_SECONDS_BETWEEN_LOOKS = 1.0
_LOOKS = 30  # over which speed is measured
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Progress:
    """Counts steps and the time in which they waited for data, and says how far the run is.

    Args:
        task: is measured.
        due: called with the figures whenever a line is due (`task.log_every`).
        looked: called with the figures about once a second; None if nothing displays them.
    """

    def __init__(
        self, task: ClassyTask, due: Callable[[Figures], None], looked: Callable[[Figures], None] | None = None
    ) -> None:
        self._task, self._due, self._looked = task, due, looked
        self._seconds: dict[str, list[float]] = {"train": [], "test": []}  # of whole phases
        self._loss = DelayedLoss()
        self._whole = False
        self._num_steps: int | None = None
        self._begin()

    def _begin(self) -> None:
        now = time.monotonic()
        self._began = self._logged = self._seen = now
        self._steps, self._logged_step, self._waited = 0, 0, 0.0
        self._looks: deque[tuple[float, int, float, float]] = deque(maxlen=_LOOKS)  # time, steps, rows, seconds waited
        self._looks.append((now, 0, 0.0, 0.0))

    def phase_started(self) -> None:
        """Called when a phase has begun."""
        self._begin()
        self._whole = not self._task.steps_in_phase
        self._num_steps = _num_steps(self._task)
        if self._looked is not None:
            self._looked(self._figures(None))

    def step_ended(self) -> None:
        """Called after each step."""
        task = self._task
        self._steps += 1
        batch = task.last_batch
        self._waited += (getattr(batch, "step_data", None) or {}).get("sample_fetch_time", 0.0)
        now, every = time.monotonic(), task.log_every
        due = every.steps is not None and task.train and task.num_train_steps % every.steps == 0
        due = due or (every.seconds is not None and now - self._logged >= every.seconds)
        if now - self._seen >= _SECONDS_BETWEEN_LOOKS or due:
            self._seen = now
            self._looks.append((now, self._steps, self._rows(), self._waited))
            if self._looked is not None and not due:
                self._loss.look(getattr(batch, "loss", None))
                self._looked(self._figures(self._loss.value))
        if due:
            loss = _mean_loss(task, self._steps - self._logged_step)
            self._logged, self._logged_step, self._loss.value = now, self._steps, loss
            figures = self._figures(loss)
            self._due(figures)
            if self._looked is not None:
                self._looked(figures)

    def phase_ended(self) -> None:
        """Called when a phase is over."""
        if self._whole:
            self._seconds[self._task.phase_type].append(time.monotonic() - self._began)

    def title(self) -> str:
        """The phase and the step."""
        return phase_title(self._task.phase_type, self._phase(), self._phases(), self._step(), self._num_steps)

    def _phase(self) -> int:
        """The number of the phase among those of its type, from 1."""
        task = self._task
        return task.train_phase_idx + 1 if task.train else task.phase_idx - task.train_phase_idx

    def _phases(self) -> int | None:
        return sum(bool(phase["train"]) == self._task.train for phase in self._task.phases) or None

    def _step(self) -> int:
        return self._task.steps_in_phase or self._steps

    def _rows(self) -> float:
        rows = rows_consumed(self._task.data_iterator) if self._task.train else None
        if rows is None:
            batch = getattr(self._task, "get_global_batchsize", None)
            rows = self._steps * batch() if batch is not None else 0
        return float(rows)

    def _figures(self, loss: float | None) -> Figures:
        task, kind, steps = self._task, self._task.phase_type, self._num_steps
        step = self._step()
        (since, first, rows_before, waited_before), (now, last, rows, waited) = self._looks[0], self._looks[-1]
        passed = max(now - since, 1e-9)
        per_step = passed / (last - first) if last > first else None
        left = None if steps is None or per_step is None else max(steps - step, 0) * per_step
        optimizer = task.optimizer if task.train else None
        rates = optimizer.options_view.lr if optimizer is not None else None
        return Figures(
            phase_type=kind,
            phase=self._phase(),
            phases=self._phases(),
            step=step,
            steps=steps,
            train_step=task.num_train_steps,
            where=_where(task),
            loss=loss,
            lr=None if rates is None else list(rates) if isinstance(rates, list | tuple) else [rates],
            samples_per_second=(rows - rows_before) / passed if last > first and rows > rows_before else None,
            data_wait=min((waited - waited_before) / passed, 1.0) if last > first else None,
            memory=_memory(),
            epoch_left=self._left(left, until_train=True),
            run_left=self._left(left),
        )

    def _left(self, left: float | None, until_train: bool = False) -> float | None:
        """Seconds to the end of the run, or to the next train phase; None before they can be estimated."""
        if left is None:
            return None
        expected = {kind: fmean(known) if known else 0.0 for kind, known in self._seconds.items()}
        kind = self._task.phase_type
        if not self._seconds[kind]:
            expected[kind] = time.monotonic() - self._began + left
        for phase in self._task.phases[self._task.phase_idx + 1 :]:
            if until_train and phase["train"]:
                break
            left += expected["train" if phase["train"] else "test"]
        return left


class DelayedLoss:
    """The loss of a recent step, read when the device has computed it: nothing waits.

    Attributes:
        value: the last loss that has arrived; None before the first.
    """

    def __init__(self) -> None:
        self.value: float | None = None
        self._host: torch.Tensor | None = None
        self._copied: Any = None

    def look(self, loss: torch.Tensor | None) -> None:
        """Takes the loss that has arrived, and sends for the next one.

        Args:
            loss: of the last step, on its device; None if it is not known.
        """
        if self._host is not None and (self._copied is None or self._copied.query()):
            self.value, self._host = float(self._host), None
        if loss is None or loss.numel() != 1 or self._host is not None:
            return
        if loss.device.type == "cuda":
            self._host = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
            self._host.copy_(loss.detach(), non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()
        elif loss.device.type == "cpu":
            self.value = float(loss.detach())


def _mean_loss(task: ClassyTask, steps: int) -> float | None:
    losses = task.losses
    if not len(losses) or steps < 1:
        return None
    if hasattr(losses, "row_mean"):
        return float(losses.row_mean(steps))
    return fmean(map(float, losses[-steps:]))


def _where(task: ClassyTask) -> float:
    with contextlib.suppress(RayClassyError):  # a phase without batches ends the run in its first step
        return task.where
    return 0.0


def _num_steps(task: ClassyTask) -> int | None:
    with contextlib.suppress(Exception):  # a loader of the user's may have no length
        return task.num_batches_per_phase
    return None


def _memory() -> int | None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE
    return None
