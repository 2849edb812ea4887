import os
import signal
import subprocess
import sys
import time

import pytest

from ray_classy.errors import RunStopped, RunTerminated
from ray_classy.hooks import ClassyHook
from ray_classy.trainer import LocalTrainer, interrupts
from ray_classy.trainer.interrupts import (
    Terminated,
    exit_code,
    install_stop_handlers,
    interruptible,
    signals_held_back,
    stop_tune,
    stop_tune_on_signal,
)
from tests.helpers import equal_weights, weights
from tests.trainer.test_row_resume import small_task


@pytest.fixture(autouse=True)
def _not_in_the_background():
    """Interrupts as in a terminal: a process in the background of a script ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupting(ClassyHook):
    """Sends this process a signal at some steps, once at each; all steps are slow."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, *steps, phase_type="train", number=signal.SIGINT, seconds=0.1):
        super().__init__()
        self.left, self.phase_type, self.number, self.seconds = set(steps), phase_type, number, seconds

    def on_step(self, task):
        time.sleep(self.seconds)
        if task.num_train_steps in self.left and task.phase_type == self.phase_type:
            self.left.remove(task.num_train_steps)
            os.kill(os.getpid(), self.number)


def interrupted(tmp_path, *steps, error=RunStopped, **options):
    task = small_task(Interrupting(*steps, **options), every=None)
    with pytest.raises(error):
        LocalTrainer(str(tmp_path), "r").train(task)
    return tmp_path / "r"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_interrupt_leaves_a_checkpoint_from_which_the_run_ends_as_a_calm_one(tmp_path, number):
    calm, resumed = small_task(every=None), small_task(every=None)
    LocalTrainer(str(tmp_path), "calm").train(calm)
    run = interrupted(tmp_path, 2, number=number)
    assert any(name.startswith("epoch_0000-") for name in os.listdir(run))
    assert '"status": "interrupted"' in (run / "run.json").read_text() and not (run / "stop").exists()
    LocalTrainer(resume=str(run)).train(resumed)
    assert equal_weights(weights(calm), weights(resumed)) and calm.losses == resumed.losses


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_script_that_a_signal_stopped_exits_with_its_code(tmp_path, number):
    with pytest.raises(RunTerminated) as stopped:
        LocalTrainer(str(tmp_path), "r").train(small_task(Interrupting(2, number=number), every=None))
    assert stopped.value.code == 128 + number and isinstance(stopped.value, SystemExit)


def printed(script):
    """What a script of one thread prints; a signal of this process may be taken by any of its threads."""
    imports = "import multiprocessing, os, signal, subprocess, time\nfrom ray_classy.trainer.interrupts import *\n"
    command = [sys.executable, "-c", imports + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def test_signals_in_a_burst_are_one():
    script = """
with stop_on_signal(lambda: print("asked")):
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for number in (*ENDING, signal.SIGTERM):
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
print("alive")
"""
    assert printed(script) == "asked\nalive\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_outside_the_loop_interrupts(number):
    with pytest.raises(Terminated) as error, interruptible():
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert exit_code(error.value) == 128 + number and exit_code(KeyboardInterrupt()) == 130


def test_a_handler_of_the_program_is_left_alone():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_a_stop_handler_that_ray_tune_installs_again_ends_the_run(capfd):
    with interruptible():
        install_stop_handlers(lambda: signal.signal(signal.SIGINT, ours))
        ours = signal.getsignal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err.count("press Ctrl-C again") == 1


@pytest.mark.parametrize(
    ("number", "again"),
    [(signal.SIGINT, "press Ctrl-C"), (signal.SIGTERM, "send SIGTERM"), (signal.SIGHUP, "send SIGHUP")],
)
def test_the_answer_to_a_signal_says_how_to_repeat_it(capfd, monkeypatch, number, again):
    monkeypatch.setattr(interrupts, "_BURST_SECONDS", 0.0)
    for request, then in ((lambda: None, "to end the run at once"), (lambda: 1 / 0, "to end it")):
        with interruptible():
            install_stop_handlers(request)
            signal.raise_signal(number)
        assert capfd.readouterr().err.endswith(f"; {again} again {then}\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_loop_of_ray_tune_interrupts(number, code):
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt) as error, interruptible(), stop_tune_on_signal(lambda: False):
        signal.raise_signal(number)
        time.sleep(1)
    assert exit_code(error.value) == code and signal.getsignal(signal.SIGUSR1) is before


def test_a_signal_in_the_loop_of_ray_tune_leaves_it_to_the_one_that_is_asked_to_stop_it():
    stops = []
    with interruptible(), stop_tune_on_signal(lambda: True):
        signal.signal(signal.SIGUSR1, lambda number, frame: stops.append(number))  # as Ray Tune does it
        signal.raise_signal(signal.SIGINT)
        assert not stops
        stop_tune()
    assert len(stops) == 1


def test_what_is_started_while_signals_are_held_back_survives_them():
    with signals_held_back():
        process = subprocess.Popen(["sleep", "60"])
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.kill()
    process.wait()


def test_a_signal_that_was_held_back_comes_after_the_block():
    script = """
try:
    with interruptible():
        with signals_held_back():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            print("held")
        time.sleep(1)
except Terminated:
    print("terminated")
"""
    assert printed(script) == "held\nterminated\n"


def test_a_worker_survives_the_signals_and_its_children_do_not():
    script = """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
leave_signals_to_driver()
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGHUP)
child = subprocess.Popen(["sleep", "60"])
child.terminate()
print(child.wait())
"""
    assert printed(script) == "-15\n"


def test_a_fork_of_a_worker_ends_however_early_it_is_told_to():
    script = """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
leave_signals_to_driver()
for _ in range(200):
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    fork.start()
    fork.terminate()
    fork.join()
print(fork.exitcode, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    assert printed(script) == "-15 set()\n"


def test_the_second_interrupt_ends_the_run_at_once(tmp_path, capfd):
    interrupted(tmp_path, 2, 3, error=KeyboardInterrupt, seconds=0.01)
    assert "press Ctrl-C again to end the run at once" in capfd.readouterr().err


def test_an_interrupt_in_a_test_phase_stops_at_its_end(tmp_path):
    run = interrupted(tmp_path, 13, phase_type="test")
    assert os.path.isdir(run / "epoch_0001-step_000013") and len((run / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_run_in_its_last_phase_is_finished(tmp_path):
    task = small_task(Interrupting(26, phase_type="test", seconds=0.001), every=None)
    LocalTrainer(str(tmp_path), "r").train(task)
    assert task.done_training()


def test_an_evaluation_is_ended_by_the_first_interrupt(tmp_path):
    task = small_task(Interrupting(0, phase_type="test"), every=None).set_test_only(True)
    with pytest.raises(KeyboardInterrupt):
        LocalTrainer(str(tmp_path), "r").train(task)


def test_an_ignored_signal_stays_ignored(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    task = small_task(Interrupting(2, seconds=0.001), every=None)
    LocalTrainer(str(tmp_path), "r").train(task)
    assert task.done_training()


def test_handlers_are_as_they_were(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    LocalTrainer(str(tmp_path), "r").train(small_task(every=None))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def wait_for(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_interrupt_in_the_middle_of_a_write_to_standard_error_asks_to_stop(tmp_path):
    script = (
        "import pathlib, sys\n"
        "from ray_classy.trainer.interrupts import stop_on_signal\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "with stop_on_signal((here / 'asked').touch):\n"
        "    (here / 'ready').touch()\n"
        "    sys.stderr.write('x' * 10**6)\n"
    )
    default = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    with subprocess.Popen([sys.executable, "-c", default + script], stderr=subprocess.PIPE) as process:
        wait_for(tmp_path / "ready")
        time.sleep(0.2)  # the pipe fills up within it, and the write waits
        process.send_signal(signal.SIGINT)
        wait_for(tmp_path / "asked")
        assert b"press Ctrl-C again" in process.stderr.read()
    assert process.returncode == 0
