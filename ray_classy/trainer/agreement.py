"""Agreement of all ranks on an action that only the primary rank can decide on, such as to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ray_classy.distributed import broadcast, get_world_size, is_primary

_SECONDS = 1.0
_MOST_STEPS = 100  # as later steps may be slower


class Agreement:
    """Distributes a decision of the primary rank to all ranks about once a second, at the same step on each.

    Along with each decision, the primary rank broadcasts the number of steps until the next one, estimated from the
    speed of the last steps. No rank waits for another in between.

    Args:
        ask: called on the primary rank; returns the decision as a small integer, 0 for no action.
    """

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._asked = time.monotonic()
        self._steps = 0
        self._next = 1

    def after_step(self) -> int:
        """Returns the decision if one is due, else 0. Every rank must call it after each train step."""
        self._steps += 1
        return 0 if self._steps < self._next else self.now()

    def now(self) -> int:
        """Returns a decision immediately. Every rank must call it."""
        answer = torch.zeros(2, dtype=torch.int64)
        if is_primary():
            now = time.monotonic()
            per_step = (
                max(now - self._asked, 1e-6) / self._steps if self._steps else _SECONDS
            )  # no step in a test phase
            answer[0], answer[1] = self._ask(), max(1, min(int(_SECONDS / per_step), _MOST_STEPS))
            self._asked = now
        if get_world_size() > 1:
            broadcast(answer)
        code, self._next = answer.tolist()
        self._steps = 0
        return code
