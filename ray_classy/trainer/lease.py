"""The lock of a run folder, as only one process may train in it.

On the machine of its owner the lock ends with the owner's process. To other machines it is a lease: it expires a minute
after the owner last renewed it.
"""

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
_SECONDS_BETWEEN_RENEWALS = 5.0
_EXPIRES_AFTER_SECONDS = 60.0
_SETTLE_SECONDS = 0.1
_held: set[str] = set()
"""The tokens of the locks that this process holds; one whose release could not be written is not among them."""


class Lease:
    """Locks a run folder for this process until the process ends or calls `release`.

    Args:
        storage: the run folder.

    Raises:
        RunFolderError: another live process has locked it.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.token = uuid.uuid4().hex
        holder = _read(storage)
        if holder is not None and _alive(holder):
            raise RunFolderError(
                f"the run {storage.path!r} is in use by process {holder['pid']} on {holder['host']}: wait until it has "
                f"ended, stop it, or start another run with another name"
            )
        self._write()
        if holder is not None:  # of two processes that resume at once, the one that wrote last gets the lock
            time.sleep(_SETTLE_SECONDS)
            check_token(storage, self.token)
        _held.add(self.token)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lock of the run", daemon=True)
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

    def _renew(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_RENEWALS):
            try:
                holder = _read(self._storage)
                if holder is not None and holder["token"] != self.token:
                    return  # another process took over while this one was suspended or disconnected
                self._write()
            except OSError:
                continue  # the store may answer again before the lease expires

    def release(self) -> None:
        """Unlocks the folder.

        If the store cannot be written, other processes of this machine see it unlocked nevertheless, and other machines
        once the lease expires.
        """
        self._stop.set()
        self._thread.join()
        _held.discard(self.token)
        with contextlib.suppress(OSError):
            holder = _read(self._storage)
            if holder is not None and holder["token"] == self.token:
                self._storage.write(LEASE_FILE, json.dumps({**holder, "beat": 0.0, "pid": 0}).encode())


def check_token(storage: Storage, token: str | None) -> None:
    """Checks that this process still holds the lock of a run folder.

    Args:
        storage: the run folder.
        token: of the lock; None checks nothing.

    Raises:
        RunFolderError: another process holds it.
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
    return time.time() - holder["beat"] < _EXPIRES_AFTER_SECONDS


def _started(pid: int) -> float | None:
    """Returns when a process of this machine started, in ticks of the kernel; None if it does not exist any more."""
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
