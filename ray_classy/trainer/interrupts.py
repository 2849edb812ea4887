"""Handling of Ctrl-C, SIGTERM (of systemd, Slurm, `timeout`) and SIGHUP (of a terminal that closes).

While a run trains, the first signal lets it write a checkpoint and stop, and the next one ends it at once. At any other
time SIGTERM and SIGHUP do what Ctrl-C does: they raise a KeyboardInterrupt, so that what was begun is ended properly.
A signal that is ignored, as Ctrl-C is in the background of a shell script and SIGHUP under nohup, stays ignored.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ray_classy.errors import RunStopped, RunTerminated

ENDING = (signal.SIGTERM, signal.SIGHUP)
SIGNALS = (signal.SIGINT, *ENDING)
_BURST_SECONDS = 1.0
"""Within which several SIGTERM and SIGHUP are one: torchrun, shells and systemd repeat what the kernel sent."""
_STDERR = 2
_received: list[int] = []
"""The signals since the last `interruptible` began; a process has one set of handlers."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, where Ctrl-C would have raised a KeyboardInterrupt.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(*([message] if message else []))
        self.number = number


def exit_code(error: BaseException) -> int:
    """The exit code of a command that a signal ended: 128 and the number of the signal."""
    return 128 + getattr(error, "number", signal.SIGINT)


def interrupted(error: BaseException, message: str) -> KeyboardInterrupt:
    """The same interrupt as `error`, with a message for the user."""
    number = getattr(error, "number", None)
    return KeyboardInterrupt(message) if number is None else Terminated(number, message)


def interruption(message: str) -> KeyboardInterrupt:
    """The interrupt by the last signal that `interruptible` or a stop handler has seen, with a message."""
    ending = [number for number in _received if number in ENDING]
    return Terminated(ending[0], message) if ending else KeyboardInterrupt(message)


def install_stop_handlers(request: Callable[[], Any]) -> None:
    """Installs handlers with which the first signal calls `request`; the next one has the former handlers, or ends."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    asked = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set():  # Ray Tune, which `request` has stopped, has installed the handler that it found
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
            return
        asked.set()
        _received.append(number)
        for each, earlier in before.items():
            signal.signal(each, _ignore if each in ENDING else earlier)
        try:
            try:
                request()
            except Exception as error:
                _print(f"cannot ask the run to stop ({type(error).__name__}: {error}); {_again(number)} to end it")
            else:
                _print(f"stopping after a checkpoint at the current step; {_again(number)} to end the run at once")
        finally:
            if number in ENDING:
                time.sleep(_BURST_SECONDS)
            for each in before.keys() & set(ENDING):
                signal.signal(each, signal.SIG_DFL if before[each] is _raise else before[each])

    for number in before:
        signal.signal(number, handler)


def _again(number: int) -> str:
    """What the user does to repeat a signal."""
    return f"send {signal.Signals(number).name} again" if number in ENDING else "press Ctrl-C again"


def _ignore(number: int, frame: FrameType | None) -> None:
    """Does nothing. (For a signal that is ignored once it has arrived, Python prints a warning.)"""


def _raise(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise Terminated(number)


def _print(text: str) -> None:
    """Writes a line past `sys.stderr`, which raises if the signal came in the middle of a write to it."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"\n{text}\n".encode(errors="replace"))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP interrupt the block, unless the program handles them itself.

    Handlers that are installed in the block are removed after it.

    Raises:
        Terminated: there was such a signal.
        RunTerminated: the run in the block has stopped because of one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handlers_restored():
        _received.clear()
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _raise)
        try:
            yield
        except RunStopped as stopped:
            if _received and _received[0] in ENDING:
                raise RunTerminated(str(stopped), _received[0]) from None
            raise


@contextlib.contextmanager
def handlers_restored() -> Iterator[None]:
    """Restores the handlers after the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: installed by other than Python
                signal.signal(number, handler)


@contextlib.contextmanager
def stop_on_signal(request: Callable[[], Any] | None) -> Iterator[None]:
    """Lets the first signal within the block call `request`.

    Args:
        request: asks the run to stop; None, as in another thread than the main one, lets it interrupt the block.
    """
    with interruptible():
        if request is not None and threading.current_thread() is threading.main_thread():
            install_stop_handlers(request)
        yield


@contextlib.contextmanager
def stop_tune_on_signal(ask: Callable[[], bool]) -> Iterator[None]:
    """Lets the first signal within the block stop Ray Tune, which ends its trials once its loop has begun.

    Before that, the signal interrupts the block.

    Args:
        ask: is asked first; returns whether it will call `stop_tune` itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request() -> None:
        if not ask():
            stop_tune()

    before = signal.signal(signal.SIGUSR1, _interrupt)
    try:
        with handlers_restored():
            install_stop_handlers(request)
            yield
    finally:
        if before is not None:  # None: installed by other than Python
            signal.signal(signal.SIGUSR1, before)


def stop_tune() -> None:
    """Stops Ray Tune at the end of the current round of its loop, within `stop_tune_on_signal`."""
    signal.raise_signal(signal.SIGUSR1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise interruption("")


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Holds SIGTERM and SIGHUP back for the block, and for good from the processes that are started in it.

    They are handled after the block, as they were before it: handlers that are installed in it are removed. Systemd,
    Slurm and shells send both to all processes of a run at once: if Ray's ended, no checkpoint could be written.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        with handlers_restored():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def leave_signals_to_driver() -> None:
    """Lets SIGTERM and SIGHUP do nothing in a worker of a Ray that was started with `signals_held_back`.

    It is called in the main thread, where alone signal handlers can be installed, once Ray has installed its own.
    The processes that a worker starts inherit what it holds back, and must end when they are told to.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(ENDING)
    if threading.current_thread() is threading.main_thread():
        for number in held:
            signal.signal(number, _ignore)
            signal.siginterrupt(number, False)
        _end_forks_when_told()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


@functools.cache
def _end_forks_when_told() -> None:
    """Lets SIGTERM and SIGHUP end what is forked from this process, where they are ignored in it.

    They are held back during the fork: Python forgets those that a fork has received before it runs the first of its
    own code.
    """
    thread = threading.local()  # several may fork at the same time

    def hold_back() -> None:
        thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def restore() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, thread.mask)

    def restore_in_child() -> None:
        for number in ENDING:
            if signal.getsignal(number) is _ignore:
                signal.signal(number, signal.SIG_DFL)
        restore()

    os.register_at_fork(before=hold_back, after_in_parent=restore, after_in_child=restore_in_child)
