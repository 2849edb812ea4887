"""`progress.json` in a run's folder: how far a run on Ray is, for the terminal of its driver alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from typing import Any

from ray_classy.errors import RecordError
from ray_classy.records import parse_json_object, read_record
from ray_classy.storage import Storage
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.progress_line import Figures
from ray_classy.trainer.run_folder import PROGRESS_FILE
from ray_classy.trainer.session import FolderSession

SECONDS_BETWEEN_WRITES = {True: 1.0, False: 5.0}
"""By whether the folder is on a local disk; a store takes longer."""


class ProgressFile(Listener):
    """Writes what the primary rank does into the run's folder, in a thread: no step waits for the disk or store."""

    watches = True

    def starting(self, session: FolderSession) -> None:
        self._storage = session.run.storage
        self._latest: dict[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._new = threading.Event()

    def working(self, what: str) -> None:
        self._put({"working": what})

    def looked(self, figures: Figures) -> None:
        self._put(dataclasses.asdict(figures))

    def _put(self, values: dict[str, Any]) -> None:
        self._latest = values
        self._new.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="progress", daemon=True)
            self._thread.start()

    def _write(self) -> None:
        while True:
            self._new.wait()
            self._new.clear()
            with contextlib.suppress(OSError):  # it is only shown
                self._storage.write(PROGRESS_FILE, json.dumps(self._latest).encode())
            time.sleep(SECONDS_BETWEEN_WRITES[self._storage.local])


def read_progress(storage: Storage) -> Figures | str | None:
    """The figures in a run's folder, or what the run does before its first step; None if it does not say."""
    try:
        values = parse_json_object(storage.read(PROGRESS_FILE), PROGRESS_FILE)
        what = values.get("working")
        if isinstance(what, str):
            return what
        found = read_record(Figures, values, PROGRESS_FILE)
    except (OSError, RecordError):
        return None
    numbers = (value for value in vars(found).values() if isinstance(value, int))
    return found if found.phase_type in ("train", "test") and all(abs(number) < 2**63 for number in numbers) else None


def remove_progress(storage: Storage) -> None:
    """Removes the file, if there is one."""
    with contextlib.suppress(OSError):
        storage.remove_file(PROGRESS_FILE)
