"""Makes batches of rows in threads, ahead of their use."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

BATCHES_AHEAD = 2
"""Batches that are read while the one before them is trained on."""
_PIECES_PER_THREAD = 4
_QUICK_ROW = 1e-4
"""Seconds that a quick row takes at most. Most of it is Python, so threads would only take turns."""
_WAITING = 4.0
"""How many times that may pass in each thread: the others have Python's lock meanwhile."""


def made_ahead(
    pool: ThreadPoolExecutor, threads: int, batches: Iterator[list[int]], make: Callable[[list[int]], list[Any]]
) -> Iterator[tuple[list[int], list[Any]]]:
    """Yields batches, each with its row numbers; rows that turn out to be quick are made by the calling thread.

    Args:
        pool: the threads.
        threads: their number.
        batches: the row numbers of each batch.
        make: makes some of a batch's rows, in any thread.
    """
    ahead: deque[tuple[list[int], deque[Future]]] = deque()
    here, threads_are_faster = False, False
    try:
        while True:
            for numbers in itertools.islice(batches, 0 if here else BATCHES_AHEAD + 1 - len(ahead)):
                size = len(numbers) // (_PIECES_PER_THREAD * threads) + 1
                pieces = [numbers[at : at + size] for at in range(0, len(numbers), size)]
                ahead.append((numbers, deque(pool.submit(_timed, make, piece) for piece in pieces)))
            if ahead:
                numbers, futures = ahead.popleft()
                made = []
                while futures:  # no name for one that fails: its error would keep this frame, and all that it holds
                    made.append(futures.popleft().result())
                quick = _are_quick(made, numbers, _WAITING * threads)
            else:
                following = next(batches, None)
                if following is None:
                    return
                numbers, made = following, [_timed(make, following)]
                quick = _are_quick(made, numbers, 1.0)
                threads_are_faster |= not quick  # rows wait for a disk or a network, which threads can do together
            here = quick and not threads_are_faster
            yield numbers, [row for rows, _, _ in made for row in rows]
    finally:
        for _, futures in ahead:
            for future in futures:
                future.cancel()


def _timed(make: Callable[[list[int]], list[Any]], numbers: list[int]) -> tuple[list[Any], float, float]:
    """Makes rows, and returns them with the seconds that this thread worked, and those that passed."""
    began, worked = time.perf_counter(), time.thread_time()
    return make(numbers), time.thread_time() - worked, time.perf_counter() - began


def _are_quick(made: list[tuple[list[Any], float, float]], numbers: list[int], waiting: float) -> bool:
    """Whether rows take little work, and do not wait: for a disk, say, which threads can do together."""
    most = _QUICK_ROW * (len(numbers) + 1)
    worked, passed = sum(one[1] for one in made), sum(one[2] for one in made)
    return worked <= most and passed <= waiting * most
