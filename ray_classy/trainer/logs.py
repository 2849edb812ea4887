"""Where log lines go: the console of whoever waits, and the run's log file."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray_classy.trainer.run_folder import LOG_FILE, RunFolder

_logger = logging.getLogger("ray_classy")
_FORMAT = logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S")


class _FolderHandler(logging.Handler):
    def __init__(self, run: RunFolder) -> None:
        super().__init__(logging.INFO)
        self._run = run
        self._failing = False
        self.setFormatter(_FORMAT)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._run.log(self.format(record))
            self._failing = False
        except OSError as error:  # the run is worth more than its log: said once, until it can be written again
            if not self._failing:
                sys.stderr.write(f"{_FORMAT.formatTime(record, _FORMAT.datefmt)}  {error}; its lines are lost\n")
                sys.stderr.flush()
            self._failing = True
        except Exception:
            self.handleError(record)


@contextmanager
def _handler(handler: logging.Handler) -> Iterator[None]:
    level = _logger.level
    _logger.addHandler(handler)
    if _logger.getEffectiveLevel() > logging.INFO:
        _logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        _logger.setLevel(level)


@contextmanager
def logged_to(run: RunFolder) -> Iterator[None]:
    """Adds what the block logs to the run's log file."""
    with _handler(_FolderHandler(run)):
        yield


@contextmanager
def shown() -> Iterator[None]:
    """Shows what the block logs on standard error, unless the program has set up logging of its own."""
    if _logger.handlers or logging.getLogger().handlers:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMAT)
    with _handler(handler):
        yield


@contextmanager
def followed(run: RunFolder, seconds: float = 0.3) -> Iterator[None]:
    """Shows on standard error the lines that other processes add to the run's log file during the block."""
    seen = len(_content(run))
    over = threading.Event()

    def follow() -> None:
        nonlocal seen
        while True:
            last = over.wait(seconds)
            content = _content(run)
            end = content.rfind(b"\n") + 1
            if end > seen:
                sys.stderr.write(content[seen:end].decode(errors="replace"))
                sys.stderr.flush()
                seen = end
            if last:
                return

    thread = threading.Thread(target=follow, name="log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _content(run: RunFolder) -> bytes:
    try:
        return run.storage.read(LOG_FILE) if run.storage.exists(LOG_FILE) else b""
    except OSError:
        return b""  # a store that fails for a moment
