"""Runs train steps of a task in the loop that trains, and measures them."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from ray_classy.errors import TaskError
from ray_classy.hooks import EarlyStoppingHook
from ray_classy.hooks.run_logger_hook import RunLoggerHook
from ray_classy.profiling.stopwatch import PARTS, Stopwatch, stopwatch_on
from ray_classy.tasks import ClassificationTask, ClassyTask
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.session import Session

_TRACED = 3
_MOST_OPERATIONS = 8
_MANY_EPOCHS = 1_000


@dataclass(frozen=True)
class Operation:
    """An operation of torch, or a kernel of a GPU.

    Attributes:
        name: as torch calls it.
        seconds: in a step.
        calls: in a step.
    """

    name: str
    seconds: float
    calls: float


@dataclass(frozen=True)
class StepProfile:
    """Where the time of a train step goes. Times are means over the steps, in seconds.

    Attributes:
        device: of the task, such as "cpu" or the name of a GPU.
        threads: CPU threads of torch.
        rows: of a step.
        steps: number of steps that each measurement averages.
        seconds: of a step that nothing measures.
        parts: of a step by part, see `PARTS`; on a GPU each part waits for the device, which makes the sum longer.
        busy: share of a step in which a GPU computes; None on a CPU.
        waits: times that Python waits for a GPU, in a step; 0 on a CPU.
        waited: seconds of them.
        operations: the most expensive ones.
        memory: bytes of a GPU's memory at their peak; None on a CPU.
    """

    device: str
    threads: int
    rows: int
    steps: int
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)
    busy: float | None = None
    waits: float = 0.0
    waited: float = 0.0
    operations: list[Operation] = field(default_factory=list)
    memory: int | None = None


class _Enough(Exception):
    """Ends the loop: all steps are measured."""


def profile_steps(task: ClassificationTask, steps: int = 20, warmup: int = 5, trace: str | None = None) -> StepProfile:
    """Trains a task for some steps, and measures them.

    The steps are made by the loop that trains: with its hooks, seeds and data loading, in this process. First they are
    timed as they are, then by part. The rest of the data is not read, test phases are empty, and hooks that end a
    run or keep it in another place are left out.

    Args:
        task: not prepared; it is used up.
        steps: number of steps of each measurement, at least 1.
        warmup: steps before them, at least 1, that are not measured.
        trace: file for a trace of three steps, in the format of Chrome and Perfetto; None for none, and no parts.

    Raises:
        RayClassyError: the task cannot be trained.
    """
    if not any(phase["train"] for phase in task.planned_phases()):
        raise TaskError("a profile is made of the train steps of a classification task, and this task makes none")
    task.set_num_epochs(_MANY_EPOCHS)
    task.set_hooks([hook for hook in task.hooks if not isinstance(hook, EarlyStoppingHook | RunLoggerHook)])
    task.eval_step = _no_step  # type: ignore[method-assign]  # test phases are empty
    session = _Profiling(task, steps, warmup, trace)
    try:
        run_loop(task, session)
    except _Enough:
        pass
    finally:
        session.stop()
    return session.result()


def _no_step() -> None:
    raise StopIteration


class _Profiling(Session):
    """Measures the loop's steps, stage by stage: warm-up, steps as they are, steps by part, steps in a trace."""

    writes_checkpoints = True  # which keeps the hooks that write checkpoints from doing so

    def __init__(self, task: ClassificationTask, steps: int, warmup: int, trace: str | None) -> None:
        self.task, self.steps, self.trace = task, steps, trace
        self._left = {"warmup": warmup, "plain": steps}
        if trace is not None:
            self._left |= {"parts": steps, "trace": _TRACED}
        self._phase: int | None = None
        self._undo = contextlib.ExitStack()  # what the current stage has installed for the current phase
        self._began = 0.0
        self._seconds: dict[str, float] = {}
        self._counted: dict[str, int] = {}
        self._stopwatch = Stopwatch()
        self._profiler: Any = None
        self._rows = 0

    @property
    def _stage(self) -> str | None:
        return next((stage for stage, left in self._left.items() if left), None)

    def step_ended(self, task: ClassyTask) -> None:
        """Counts the step that has ended, if it began in the same phase and stage, and begins the next one."""
        stage = self._stage
        assert stage is not None
        if stage == "warmup" or self._phase == task.phase_idx:
            self._left[stage] -= 1
            self._counted[stage] = self._counted.get(stage, 0) + 1
        if self._phase == task.phase_idx and self._stage == stage:
            self._last = time.perf_counter()
            return
        self._pause(complete=self._phase == task.phase_idx)
        if self._stage is None:
            raise _Enough
        self._begin(task)

    def phase_ended(self, task: ClassyTask) -> None:
        """Stops the clock until the first step of the next phase is made.

        Raises:
            TaskError: train phases have a single step.
        """
        if self.task.train and self.task.steps_in_phase < 2:
            raise TaskError(
                "a train phase has a single step, and the first step of a phase is not measured because it starts the "
                "reading of data: lower dataset.train.batchsize_per_replica"
            )
        self._pause(complete=False)
        self._phase = None
        return None

    def _begin(self, task: ClassyTask) -> None:
        stage, self._phase = self._stage, task.phase_idx
        self._rows = self.task.get_batchsize_per_replica()
        if stage == "parts":
            if "parts" not in self._counted:
                self._stopwatch = Stopwatch(wait=self._wait)
            self._undo.enter_context(stopwatch_on(self.task, self._stopwatch))
        if stage == "trace":
            self._undo.enter_context(stopwatch_on(self.task, Stopwatch(marks=True)))
            if self._profiler is None:
                self._profiler = _profiler(self.task.device)
                self._profiler.start()
        self._wait()
        self._running = stage
        self._began = self._last = time.perf_counter()

    def _pause(self, complete: bool) -> None:
        """Adds the time since `_begin` to the stage that was running."""
        running = getattr(self, "_running", None)
        if running is None:
            return
        if complete:
            self._wait()
            self._last = time.perf_counter()
        self._seconds[running] = self._seconds.get(running, 0.0) + self._last - self._began
        self._undo.close()
        self._running = None

    def _wait(self) -> None:
        if self.task.device.type == "cuda":
            torch.cuda.synchronize(self.task.device)

    def stop(self) -> None:
        """Ends what is being measured, and writes the trace."""
        self._undo.close()
        if self._profiler is not None:
            self._profiler.stop()
            assert self.trace is not None
            self._profiler.export_chrome_trace(self.trace)

    def result(self) -> StepProfile:
        """Returns the means over the steps."""
        device, plain = self.task.device, self._seconds["plain"] / self._counted["plain"]
        facts: dict[str, Any] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "rows": self._rows,
            "steps": self.steps,
            "seconds": plain,
        }
        if device.type == "cuda":
            facts["memory"] = torch.cuda.max_memory_allocated(device)
        if self.trace is None:
            return StepProfile(**facts)
        counted = self._counted["parts"]
        parts = {part: self._stopwatch.seconds.get(part, 0.0) / counted for part in PARTS}
        parts["python"] = max(0.0, self._seconds["parts"] / counted - sum(parts.values()))
        events = _Events(self._profiler, self._counted["trace"])
        if device.type == "cuda":
            facts |= {"busy": min(1.0, events.on_device / plain), "waits": events.waits, "waited": events.waited}
        return StepProfile(**facts, parts=parts, operations=events.operations[:_MOST_OPERATIONS])


def _profiler(device: torch.device) -> Any:
    kinds = torch.profiler.ProfilerActivity
    return torch.profiler.profile(activities=[kinds.CPU, *([kinds.CUDA] if device.type == "cuda" else [])])


_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class _Events:
    """What a profile of torch says of a step.

    Attributes:
        operations: kernels of a GPU, or operations on a CPU without those that they call; the most expensive one first.
        on_device: seconds of kernels and copies on a GPU.
        waits, waited: how often, and how long, Python waits for a GPU.
    """

    def __init__(self, profiler: Any, steps: int) -> None:
        averages = [event for event in profiler.key_averages() if event.key not in PARTS]
        kernels = [event for event in averages if event.device_type == torch.autograd.DeviceType.CUDA]
        on_gpu = bool(kernels)
        times = [(e, e.self_device_time_total if on_gpu else e.self_cpu_time_total) for e in kernels or averages]
        found = [Operation(e.key, time * 1e-6 / steps, e.count / steps) for e, time in times if time > 0]
        self.operations = sorted(found, key=lambda one: -one.seconds)
        self.on_device = sum(one.seconds for one in found) if on_gpu else 0.0
        waits = [event for event in averages if event.key in _WAITS]
        self.waits = sum(event.count for event in waits) / steps
        self.waited = sum(event.self_cpu_time_total for event in waits) * 1e-6 / steps
