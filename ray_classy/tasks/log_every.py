"""How often a run says how far it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_classy.errors import ComponentError


@dataclass(frozen=True)
class LogEvery:
    """How often the progress of a phase is logged: a line in the log and in `steps.jsonl`, and values for loggers.

    The loss is fetched from the device for it, for which rank 0 waits.

    Args:
        seconds: inside phases, when so many seconds have passed since the last line, above 0; None for never.
        steps: inside train phases, after every so many train steps, at least 1; None for never.

    Raises:
        ComponentError: an argument is impossible.
    """

    seconds: float | None = 30.0
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and (type(self.steps) is not int or self.steps < 1):
            raise ComponentError(f"log_every.steps must be an integer of at least 1 or null, not {self.steps!r}")
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if self.seconds is not None and not (number and 0 < self.seconds < math.inf):
            raise ComponentError(f"log_every.seconds must be a number above 0 or null, not {self.seconds!r}")
