"""When the ranks of a run do together what only one of them can decide."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ray_classy.distributed import broadcast, get_world_size, is_primary

_SECONDS = 1.0
_MOST_STEPS = 100  # steps may become slow


class Agreement:
    """Asks the primary rank about once a second, and tells its answer to all ranks at the same step.

    With every answer the primary rank says how many steps there are to the next one, from the speed of the last; so no
    rank waits for another in the steps between.

    Args:
        ask: called on the primary rank; the answer is a small integer, 0 for nothing.
    """

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._asked = time.monotonic()
        self._steps = 0
        self._next = 1

    def after_step(self) -> int:
        """The answer, where it is time for one, else 0; every rank must call it after each train step."""
        self._steps += 1
        return 0 if self._steps < self._next else self.now()

    def now(self) -> int:
        """The answer at once; every rank must call it."""
        answer = torch.zeros(2, dtype=torch.int64)
        if is_primary():
            now = time.monotonic()
            per_step = max(now - self._asked, 1e-6) / max(self._steps, 1)
            answer[0], answer[1] = self._ask(), max(1, min(int(_SECONDS / per_step), _MOST_STEPS))
            self._asked = now
        if get_world_size() > 1:
            broadcast(answer)
        code, self._next = answer.tolist()
        self._steps = 0
        return code
