"""One run, one owner: a lease on a run folder that a dead owner loses."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from typing import Any

from ray_classy.errors import RunFolderError
from ray_classy.storage import Storage

LEASE_FILE = "lease.json"
_BEAT_SECONDS = 5.0
_DEAD_AFTER_SECONDS = 60.0
_SETTLE_SECONDS = 0.1
_held: set[str] = set()  # the tokens of this process; a lease of it that could not be given back is not among them


class Lease:
    """Holds a run folder for this process until it ends, or until `release`.

    Args:
        storage: the run folder.

    Raises:
        RunFolderError: another live process holds it.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.token = uuid.uuid4().hex
        holder = _read(storage)
        if holder is not None and _alive(holder):
            raise RunFolderError(
                f"the run {storage.path!r} is going on already: process {holder['pid']} on {holder['host']} holds it. "
                f"Wait for it or stop it; to run a second time beside it, give another name"
            )
        self._write()
        if holder is not None:  # two that resume at once both saw it free: the one that wrote last has it
            time.sleep(_SETTLE_SECONDS)
            check_token(storage, self.token)
        _held.add(self.token)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        lease = {
            "token": self.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "beat": time.time(),
        }
        self._storage.write(LEASE_FILE, json.dumps(lease).encode())

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS):
            try:
                holder = _read(self._storage)
                if holder is not None and holder["token"] != self.token:
                    return  # taken over while this process was stopped or cut off
                self._write()
            except OSError:
                continue  # a store that fails for a moment; the lease lasts for several beats

    def release(self) -> None:
        """Gives the folder free; where that cannot be written down, it counts as free for this machine alone."""
        self._stop.set()
        self._thread.join()
        _held.discard(self.token)
        with contextlib.suppress(OSError):
            holder = _read(self._storage)
            if holder is not None and holder["token"] == self.token:
                self._storage.write(LEASE_FILE, json.dumps({**holder, "beat": 0.0, "pid": 0}).encode())


def check_token(storage: Storage, token: str | None) -> None:
    """Refuses to write for a run that another process has taken over.

    Raises:
        RunFolderError: the lease is another's.
    """
    holder = _read(storage)
    if token is not None and holder is not None and holder["token"] != token:
        raise RunFolderError(f"the run {storage.path!r} was taken over by process {holder['pid']} on {holder['host']}")


def _read(storage: Storage) -> dict[str, Any] | None:
    if not storage.exists(LEASE_FILE):
        return None
    try:
        return json.loads(storage.read(LEASE_FILE))
    except ValueError:
        return None


def _alive(holder: dict[str, Any]) -> bool:
    if not holder["pid"]:
        return False
    if holder["host"] == socket.gethostname():
        if holder["pid"] == os.getpid() and holder["token"] not in _held:
            return False
        return _started(holder["pid"]) is not None and _started(holder["pid"]) == holder["started"]
    return time.time() - holder["beat"] < _DEAD_AFTER_SECONDS


def _started(pid: int) -> float | None:
    """When a process of this machine started, in the kernel's ticks; None if there is none (or only its zombie)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        if os.path.isdir("/proc/self"):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return 0.0
    return None if fields[0] in "ZX" else float(fields[19])
