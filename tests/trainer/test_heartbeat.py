import gc
import logging
import threading
import time

from ray_classy.trainer import heartbeat
from ray_classy.trainer.heartbeat import NO_STEP, Heartbeat


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_run_in_which_nothing_happens_is_logged(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "ray_classy")
    monkeypatch.setattr(heartbeat, "_SHORTEST_SECONDS", 0.02)
    beats = Heartbeat(0.02)
    beats.beat(lambda: "train 1/2  step 0/10", NO_STEP)
    assert until(lambda: "train 1/2  step 0/10: no step for 0 s" in caplog.text)
    beats.stop()


def test_no_line_comes_soon_after_another_or_while_steps_are_made(caplog):
    caplog.set_level(logging.INFO, "ray_classy")
    beats = Heartbeat(30)
    beats._at -= 100
    beats.look(30)
    beats._line_at -= 100
    beats.beat(lambda: "train 1/2  step 1/10", NO_STEP)
    beats.look(30)
    assert not caplog.text
    beats._at -= 20
    beats.look(30)
    assert "train 1/2  step 1/10: no step for 20 s" in caplog.text
    beats.stop()


def test_a_run_that_is_forgotten_is_not(monkeypatch):
    monkeypatch.setattr(heartbeat, "_SHORTEST_SECONDS", 0.02)
    beats = Heartbeat(0.02)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "heartbeat" and thread.is_alive()][-1:]
    del beats
    gc.collect()
    assert until(lambda: not thread.is_alive())
