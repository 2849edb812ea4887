"""Rows are made in threads, ahead of their use, unless they are so quick that threads would only take turns."""

import contextlib
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_classy.dataset.made_ahead import made_ahead


def makers(make, batches):
    """Returns, by batch, whether the calling thread made it; checks that the rows are those of the batch."""
    here = []

    def made(numbers):
        make(numbers)
        return [(number, threading.current_thread()) for number in numbers]

    with ThreadPoolExecutor(2) as pool:
        for numbers, rows in made_ahead(pool, 2, iter(batches), made):
            assert [number for number, _ in rows] == numbers
            here.append({thread for _, thread in rows} == {threading.current_thread()})
    return here


def busy(numbers):
    end = time.thread_time() + 3e-4 * len(numbers)
    while time.thread_time() < end:
        pass


BATCHES = [list(range(at, at + 50)) for at in range(0, 400, 50)]


def test_quick_rows_are_made_by_the_calling_thread():
    assert makers(lambda numbers: None, BATCHES)[:4] == [False, False, False, True]


def test_slow_rows_are_made_by_threads():
    assert not any(makers(busy, BATCHES))


def test_rows_that_wait_are_made_by_threads():
    assert sum(makers(lambda numbers: time.sleep(2e-4 * len(numbers)), BATCHES)) == 1


def test_batches_without_rows_do_not_end_the_others():
    batches = [[], *BATCHES, [], [], [7], [], [8]]
    assert len(makers(lambda numbers: None, batches)) == len(batches)


def test_an_error_is_raised_and_cancels_what_is_ahead():
    def fail(numbers):
        raise ValueError(f"row {numbers[0]}")

    with pytest.raises(ValueError, match="row 0"):
        makers(fail, BATCHES)


def test_an_error_keeps_nothing_alive_when_it_is_gone():
    def fail(numbers):
        raise ValueError

    there = weakref.ref(fail)
    gc.disable()
    try:
        with ThreadPoolExecutor(2) as pool, contextlib.suppress(ValueError):
            list(made_ahead(pool, 2, iter(BATCHES), fail))
        del fail
        until = time.monotonic() + 5
        while there() is not None and time.monotonic() < until:  # its threads may not quite have ended
            time.sleep(0.01)
        assert there() is None
    finally:
        gc.enable()
