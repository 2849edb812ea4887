"""Destinations of log lines: standard error of the process that waits for the run, and the run's log file."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ray_classy.display import is_quiet
from ray_classy.printable import printable, printable_lines
from ray_classy.redact import redacted
from ray_classy.trainer.repeating import repeating
from ray_classy.trainer.run_folder import LOG_FILE, RunFolder

_logger = logging.getLogger("ray_classy")
PROGRESS = {"progress": True}
"""The `extra` of a record that a display shows in another form."""
_LINE_OF_PROGRESS = re.compile(r"[\d:]{8}  ((train|test) \d+(/\d+)?  step \d+|.*: [\d.]+ (s|min|h) so far$)")
_SECONDS_BETWEEN_READS = 0.3
_SECONDS_BETWEEN_REMOTE_READS = 5.0


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # A line within a message is indented, so that text from a file cannot pass for a line of its own.
        return "\n  ".join(map(printable, redacted(super().format(record)).split("\n")))


_FORMAT = _Formatter("%(asctime)s  %(message)s", "%H:%M:%S")


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
        except OSError as error:  # a run is worth more than its log: report it once until the log can be written again
            if not self._failing:
                sys.stderr.write(f"{_FORMAT.formatTime(record, _FORMAT.datefmt)}  {error}; its lines are lost\n")
                sys.stderr.flush()
            self._failing = True
        except Exception:
            self.handleError(record)


def _is_shown(record: logging.LogRecord) -> bool:
    return not getattr(record, "progress", False)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Prints to what `sys.stderr` is at the moment: a live display replaces it for its time."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        """Ignored."""


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
def log_to_folder(run: RunFolder) -> Iterator[None]:
    """Appends what the block logs to the run's log file; it is complete when the block ends."""
    try:
        with _handler(_FolderHandler(run)):
            yield
    finally:
        run.flush_log()


def has_own_logging() -> bool:
    """Whether the program has configured logging itself."""
    return bool(_logger.handlers or logging.getLogger().handlers)


@contextmanager
def log_to_stderr(displayed: bool = False) -> Iterator[None]:
    """Prints what the block logs on standard error, unless the program has configured logging itself.

    Args:
        displayed: whether the progress is shown in another form.
    """
    if has_own_logging():
        yield
        return
    handler = _StderrHandler()
    handler.setFormatter(_FORMAT)
    if is_quiet():
        handler.setLevel(logging.ERROR)
    if displayed:
        handler.addFilter(_is_shown)
    with _handler(handler):
        yield


@contextmanager
def tail_log(
    run: RunFolder,
    seconds: float | None = None,
    displayed: bool = False,
    heard: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Prints on standard error the lines that other processes append to the run's log file during the block.

    Args:
        run: whose log is printed.
        seconds: the time between two reads of the file; None is 0.3 s on a local disk and 5 s in a store.
        displayed: whether the progress is shown in another form.
        heard: called when lines have come.
    """
    if is_quiet():
        yield
        return
    interval = seconds or (_SECONDS_BETWEEN_READS if run.storage.local else _SECONDS_BETWEEN_REMOTE_READS)
    seen = _log_size(run)

    def print_added() -> None:
        nonlocal seen
        added = _read_log(run, seen)
        added = added[: added.rfind(b"\n") + 1]
        if added:
            heard()
            seen += len(added)
            text = printable_lines(added.decode(errors="replace"))
            lines = text.splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not (displayed and _LINE_OF_PROGRESS.match(line))))
            sys.stderr.flush()

    with repeating(print_added, interval, "log", once_more=True):
        yield


def _log_size(run: RunFolder) -> int:
    try:
        return run.storage.size(LOG_FILE)
    except OSError:
        return 0


def _read_log(run: RunFolder, start: int) -> bytes:
    """The run's log file from a byte on; nothing where it is shorter, missing or cannot be read."""
    try:
        return run.storage.read(LOG_FILE, start, most_bytes=None)
    except OSError:
        return b""  # the store may answer the next time
