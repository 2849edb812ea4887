"""How often a run writes checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_classy.errors import ComponentError


@dataclass(frozen=True)
class CheckpointEvery:
    """How often a run writes checkpoints; the last round always ends with one.

    A round is a train phase and the test phase after it, if there is one.

    Args:
        rounds: after every so many rounds, at least 1. None: as the checkpoint hook says, and without one after every
            round.
        steps: inside train phases, after every so many train steps, at least 1; None for never.
        minutes: inside train phases, when so many minutes have passed since the last checkpoint, above 0; None for
            never.

    Raises:
        ComponentError: an argument is impossible.
    """

    rounds: int | None = None
    steps: int | None = None
    minutes: float | None = 10.0

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.rounds), ("steps", self.steps)):
            if value is not None and (type(value) is not int or value < 1):
                raise ComponentError(f"checkpoint_every.{name} must be an integer of at least 1 or null, not {value!r}")
        number = isinstance(self.minutes, int | float) and not isinstance(self.minutes, bool)
        if self.minutes is not None and not (number and 0 < self.minutes < math.inf):
            raise ComponentError(f"checkpoint_every.minutes must be a number above 0 or null, not {self.minutes!r}")
