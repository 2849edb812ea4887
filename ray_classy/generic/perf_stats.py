"""Timers by name, of the host and of the GPU, and their averages."""

from __future__ import annotations

from collections import defaultdict, deque
from time import perf_counter
from typing import Any

import torch


class PerfMetric:
    """The average of the values of one timer.

    Attributes:
        last_value: the latest value; None before the first.
        smoothed_value: exponential moving average of the values, in which a new one has the weight `EMA_FACTOR`.
        sum_values, num_updates: the sum of all values, and their number.
    """

    EMA_FACTOR = 0.1

    def __init__(self) -> None:
        self.last_value: float | None = None
        self.smoothed_value: float | None = None
        self.sum_values = 0.0
        self.num_updates = 0

    def update(self, value: float) -> None:
        """Adds a value."""
        before = value if self.smoothed_value is None else self.smoothed_value
        self.last_value = value
        self.smoothed_value = before + self.EMA_FACTOR * (value - before)
        self.sum_values += value
        self.num_updates += 1

    def get_avg(self) -> float:
        """Returns the mean of all values; 0 without one."""
        return self.sum_values / self.num_updates if self.num_updates else 0.0


class PerfStats:
    """Averages timers by name.

    Args:
        use_cuda_events: also time the work that the GPU does between start and stop, if there is a GPU. Its times are
            known later, and nothing waits for them.
    """

    MAX_PENDING_TIMERS = 1000

    def __init__(self, use_cuda_events: bool = True) -> None:
        self._host_stats: dict[str, PerfMetric] = defaultdict(PerfMetric)
        self._cuda_stats: dict[str, PerfMetric] = defaultdict(PerfMetric)
        self._cuda_pending_timers: deque[PerfTimer] | None = None
        if use_cuda_events and torch.cuda.is_available():
            self._cuda_pending_timers = deque(maxlen=self.MAX_PENDING_TIMERS)

    def update_with_timer(self, timer: PerfTimer) -> None:
        """Adds the time of a timer that is stopped."""
        self._host_stats[timer.name].update(timer.elapsed)
        if self._cuda_pending_timers is not None:
            self._cuda_pending_timers.append(timer)
            self._process_cuda_events()

    def _process_cuda_events(self) -> None:
        """Adds the times of the GPU that are known by now."""
        pending = self._cuda_pending_timers
        while pending and all(stop.query() for _, stop in pending[0].cuda_events):
            timer = pending.popleft()
            self._cuda_stats[timer.name].update(sum(start.elapsed_time(stop) for start, stop in timer.cuda_events))

    def report_str(self) -> str:
        """Returns a table of the mean times in milliseconds, by timer."""
        self._process_cuda_events()
        width = max((len(name) for name in self._host_stats), default=0) + 4
        lines = [f"{'Timer':>{width}}     Host    CudaEvent"]
        for name in sorted(self._host_stats):
            cuda = self._cuda_stats[name].get_avg() if name in self._cuda_stats else 0.0
            lines.append(f"{name:>{width}}: {self._host_stats[name].get_avg():>7.2f} ms {cuda:>7.2f} ms")
        return "\n".join(lines)

    def use_cuda_events(self) -> bool:
        """Whether the work of the GPU is timed."""
        return self._cuda_pending_timers is not None


class PerfTimer:
    """A context manager that times its block; `start`, `stop` and `record` do the same in steps.

    Args:
        timer_name: name of the timer.
        perf_stats: takes the time when the block ends; None for a timer that does nothing.

    Attributes:
        elapsed: milliseconds between all starts and stops.
        cuda_events: pairs of CUDA events at them.
    """

    def __init__(self, timer_name: str, perf_stats: PerfStats | None) -> None:
        self.skip = perf_stats is None
        self.name = timer_name
        self.elapsed = 0.0
        self.cuda_events: list[tuple[Any, Any]] = []
        self._perf_stats = perf_stats
        self._began: tuple[float, Any] | None = None

    def __enter__(self) -> PerfTimer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        if exception[0] is None:
            self.record()

    def start(self) -> None:
        """Starts the timer."""
        if self._perf_stats is not None:
            self._began = (perf_counter(), self._event())

    def stop(self) -> None:
        """Adds the time since the start, if the timer was started."""
        if self._began is None:
            return
        began, start = self._began
        self.elapsed += (perf_counter() - began) * 1000
        if start is not None:
            self.cuda_events.append((start, self._event()))
        self._began = None

    def record(self) -> None:
        """Adds the time to the statistics."""
        if self._perf_stats is not None:
            self._perf_stats.update_with_timer(self)

    def _event(self) -> Any:
        if self._perf_stats is None or not self._perf_stats.use_cuda_events():
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
