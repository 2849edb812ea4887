"""A hook that draws a progress bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from ray_classy.distributed import is_primary
from ray_classy.hooks.classy_hook import ClassyHook, register_hook

_WIDTH = 30
_SECONDS_BETWEEN = 0.2


@register_hook("progress_bar")
class ProgressBarHook(ClassyHook):
    """Draws one bar per phase on standard error; draws nothing if that is not a terminal."""

    on_start = ClassyHook._noop
    on_end = ClassyHook._noop

    def __init__(self) -> None:
        super().__init__()
        self._done = 0
        self._drawn = 0.0

    def on_phase_start(self, task: Any) -> None:
        """Starts an empty bar."""
        self._done, self._drawn = 0, 0.0

    def on_step(self, task: Any) -> None:
        """Updates the bar, at most a few times a second."""
        self._done += 1
        now = time.monotonic()
        if now - self._drawn >= _SECONDS_BETWEEN:
            self._drawn = now
            self._draw(task)

    def on_phase_end(self, task: Any) -> None:
        """Completes the bar."""
        self._draw(task, "\n")

    def _draw(self, task: Any, end: str = "") -> None:
        if not is_primary() or not sys.stderr.isatty():
            return
        steps = max(1, task.num_batches_per_phase)
        filled = _WIDTH * min(self._done, steps) // steps
        bar = "#" * filled + "." * (_WIDTH - filled)
        print(f"\r{task.phase_type:5} [{bar}] {self._done}/{steps}", end=end, file=sys.stderr, flush=True)
