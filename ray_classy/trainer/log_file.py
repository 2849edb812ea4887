"""The log file of a run, which is cheap to write also in a store, where a file can only be replaced as a whole."""

from __future__ import annotations

import atexit
import functools
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from ray_classy.storage import Storage

_SECONDS_BETWEEN_WRITES = 5.0
_LONGEST_SECONDS_BETWEEN_WRITES = 60.0
_SHARE_OF_TIME = 0.1
_MOST_WAITING_LINES = 10_000
_with_thread: weakref.WeakSet[LogFile] = weakref.WeakSet()


def _always() -> bool:
    return True


class LogFile:
    """Appends lines to a file.

    On a local disk each line is written at once. In a store, lines are collected, and a background thread writes them:
    the first after a quiet time at once, later ones `seconds` after the write before, at the latest after a minute.
    What is still collected is written by `flush`, which also runs when the interpreter ends.

    Args:
        storage: the folder of the file.
        name: the file's name.
        seconds: the shortest time between two writes to a store.
        owned: whether the file is still this process's to write; what comes afterwards is dropped.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        seconds: float = _SECONDS_BETWEEN_WRITES,
        owned: Callable[[], bool] = _always,
    ) -> None:
        self._storage, self._name, self._seconds, self._owned = storage, name, seconds, owned
        self._start_empty()

    def _start_empty(self) -> None:
        self._process = os.getpid()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()  # a signal handler may add a line at any moment
        self._unwritten: list[str] = []
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failing = False

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_storage", "_name", "_seconds", "_owned")
        return {name: value for name, value in vars(self).items() if name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_empty()

    def add(self, line: str) -> None:
        """Appends a line.

        Raises:
            StorageError: it cannot be written to the local disk. A store that fails is tried again later.
        """
        if self._storage.local:
            if self._owned():
                self._storage.append(self._name, line + "\n")
            return
        if self._process != os.getpid():  # a fork has neither the thread nor a usable lock
            self._start_empty()
        self._lines.put(line)
        if self._thread is None:
            _flush_at_exit()
            _with_thread.add(self)
            self._thread = threading.Thread(target=self._write_all, name="log file", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Writes the lines that are still collected; where the store refuses them, standard error says so."""
        if self._process == os.getpid():
            self._write()

    def _write_all(self) -> None:
        """Runs in the thread, which ends once there is nothing to write."""
        while True:
            began = time.monotonic()
            self._write()
            pause = (time.monotonic() - began) / _SHARE_OF_TIME
            time.sleep(max(self._seconds, min(pause, _LONGEST_SECONDS_BETWEEN_WRITES)))
            if not self._unwritten and self._lines.empty():
                self._thread = None
                if self._lines.empty():  # else a line came before `add` could see that a new thread is needed
                    return
                self._thread = threading.current_thread()

    def _write(self) -> None:
        with self._writing:
            while not self._lines.empty():
                self._unwritten.append(self._lines.get())
            if not self._unwritten:
                return
            try:
                if self._owned():
                    self._storage.append(self._name, "".join(f"{line}\n" for line in self._unwritten))
            except Exception as error:  # a run is worth more than its log
                del self._unwritten[:-_MOST_WAITING_LINES]
                if not self._failing:
                    self._warn(error)
                self._failing = True
            else:
                self._unwritten, self._failing = [], False

    def _warn(self, error: Exception) -> None:
        text = f"{time.strftime('%H:%M:%S')}  {error}; its latest lines are kept in memory and tried again\n"
        sys.stderr.write(text)
        sys.stderr.flush()


@functools.cache
def _flush_at_exit() -> None:
    import pyarrow.fs  # noqa: F401 - its exit handler closes S3: registered first, it runs last

    atexit.register(_flush_all)


def _flush_all() -> None:
    for file in list(_with_thread):
        file.flush()
