"""How often a run writes checkpoints."""

from __future__ import annotations

import math

from ray_classy.errors import ComponentError


class CheckpointEvery:
    """The cadence of a run's checkpoints. The last round is always written.

    Args:
        rounds: after every that many rounds (a train phase and the test phase after it), at least 1. None: as the
            checkpoint hook says, and without one after every round.
        steps: inside train phases, after every that many train steps, at least 1; None for none.
        minutes: inside train phases, when so many minutes have passed since the last one, above 0; None for none.

    Raises:
        ComponentError: an argument is impossible.
    """

    def __init__(self, rounds: int | None = None, steps: int | None = None, minutes: float | None = 10.0) -> None:
        for name, value in (("rounds", rounds), ("steps", steps)):
            if value is not None and (type(value) is not int or value < 1):
                raise ComponentError(f"checkpoint_every.{name} must be an integer of at least 1 or null, not {value!r}")
        number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
        if minutes is not None and not (number and 0 < minutes < math.inf):
            raise ComponentError(f"checkpoint_every.minutes must be a number above 0 or null, not {minutes!r}")
        self.rounds = rounds
        self.steps = steps
        self.minutes = minutes
