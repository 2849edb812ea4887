"""A function that is called again and again while a block runs."""

import threading

from ray_classy.trainer.repeating import repeating


def test_a_function_is_called_until_the_block_ends():
    twice, calls = threading.Event(), []

    def call():
        calls.append(threading.current_thread().name)
        if len(calls) == 2:
            twice.set()

    with repeating(call, 0.001, "tick"):
        assert twice.wait(60)
    assert set(calls) == {"tick"}
    assert "tick" not in [thread.name for thread in threading.enumerate()]


def test_a_function_is_called_once_more_when_the_block_ends():
    calls = []
    with repeating(lambda: calls.append(1), 3600, "tick", once_more=True):
        assert not calls
    assert calls == [1]
