"""The lock of a run folder, as only one process may train in it.

On a local disk a file lock of the kernel says whether the holder lives, across containers and processes, however clocks
and process numbers differ. Another machine may not see that lock, nor another mount of a store (gcsfuse, s3fs), and a
store has none. To them the lock is a lease: it expires a minute after its holder last renewed it, by the clock of the
disk or store in which the folder lies. Whoever takes the lock over writes a new token, and every write of the former
holder checks the token first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass

from ray_classy.errors import RecordError, RunFolderError
from ray_classy.printable import printable
from ray_classy.records import parse_json, read_record
from ray_classy.storage import Storage
from ray_classy.urls import shown

LEASE_FILE, LOCK_FILE = "lease.json", "lock"
_SECONDS_BETWEEN_RENEWALS = 5.0
_EXPIRES_AFTER_SECONDS = 60.0
_SETTLE_SECONDS = 0.1
_SETTLE_SECONDS_IN_STORES = 0.5
_held: set[str] = set()
"""The tokens of the locks that this process holds; one whose release could not be written is not among them."""


@dataclass
class _Holder:
    """The content of the lease file.

    Attributes:
        token: of the lock.
        host: name of the machine, for messages.
        pid: of the process, for messages; 0 once it has released the lock.
        started: when the process started, in ticks of the kernel.
        boot: identifies the running kernel, which the containers of a machine share; None if that is not known.
        pids: identifies the space of process numbers on it, of which each container may have its own.
        lock: device and number of the file on which the process holds a lock as well; None if it holds none.
        renewals: how often it has renewed the lease in a store; on a disk, the time of the file says it.
    """

    token: str
    host: str = "an unknown machine"
    pid: int = 0
    started: float | None = None
    boot: str | None = None
    pids: str | None = None
    lock: list[int] | None = None
    renewals: int = 0


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
        lock = _FileLock(storage)
        try:
            if not lock.free or (holder is not None and self._alive(holder, lock)):
                raise RunFolderError(_in_use(storage, holder, certain=not lock.free))
            self._holder = _this_process(self.token, lock.file)
            self._write(self._holder)
            if lock.file is None:  # of two processes that begin at once, the one that wrote last gets the lock
                time.sleep(_SETTLE_SECONDS if storage.local else _SETTLE_SECONDS_IN_STORES)
                check_token(storage, self.token)
        except BaseException:
            if lock.file is not None and holder is None:
                lock.remove()  # so that the folder is as it was
            lock.release()
            raise
        _held.add(self.token)
        self._lock = lock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lock of the run", daemon=True)
        self._thread.start()

    def _alive(self, holder: _Holder, lock: _FileLock) -> bool:
        """Whether the process that a lease names may still hold it, now that the file lock is free or there is none."""
        if not holder.pid:
            return False
        here = _this_process(self.token, lock.file)
        if here.boot is not None and holder.boot == here.boot:
            if lock.file is not None and holder.lock == lock.file:
                return False  # under this kernel its lock on the same file would be seen
            if _is_near(holder, here):
                return _runs(holder)
        try:
            return abs(_age(self._storage, self.token)) < _EXPIRES_AFTER_SECONDS
        except OSError:  # a store that does not say when a file was written
            time.sleep(3 * _SECONDS_BETWEEN_RENEWALS)
            return _read(self._storage) != holder

    def _write(self, holder: _Holder) -> None:
        self._storage.write(LEASE_FILE, json.dumps(asdict(holder)).encode())

    def _renew(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_RENEWALS):
            try:
                if not owns(self._storage, self.token):
                    return  # another process took over while this one was suspended or disconnected
                if self._storage.local:
                    os.utime(self._storage.join(LEASE_FILE))  # whoever has just taken over keeps the lock
                else:
                    self._holder.renewals += 1
                    self._write(self._holder)
            except OSError:
                continue  # the store may answer again before the lease expires

    def release(self) -> None:
        """Unlocks the folder.

        If the store cannot be written, other processes of this machine see it unlocked nevertheless where there are
        file locks, and all others once the lease expires.
        """
        self._stop.set()
        self._thread.join()
        _held.discard(self.token)
        with contextlib.suppress(OSError):
            if owns(self._storage, self.token):
                self._write(_Holder(self.token, self._holder.host))
        self._lock.release()


class _FileLock:
    """A lock of the kernel on a file in a local folder.

    Attributes:
        free: False if another process holds it.
        file: device and number of the file, if this process holds it; None also where there are no such locks.
    """

    def __init__(self, storage: Storage) -> None:
        self.free, self.file = True, None
        self._descriptor: int | None = None
        self._path = storage.join(LOCK_FILE) if storage.local else ""
        for mode in (os.O_RDONLY, os.O_RDWR) if storage.local else ():  # NFS locks only what is open for writing
            try:
                self._descriptor = os.open(self._path, mode | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
                _open.add(self)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(self._descriptor)
                self.file = [status.st_dev, status.st_ino]
                return
            except BlockingIOError:
                self.free = False
                self.release()
                return
            except OSError:  # no locks, or this file cannot be written
                self.release()

    def remove(self) -> None:
        """Removes the file."""
        with contextlib.suppress(OSError):
            os.remove(self._path)

    def release(self) -> None:
        """Lets the next process have it; the file stays, as another process may have opened it."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # also for a child that has not closed it yet
        self.close()

    def close(self) -> None:
        """Closes the file; the lock stays while another process has the same file open since a fork."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
        _open.discard(self)


_open: set[_FileLock] = set()
"""The locks of this process whose files are open."""


def _close_in_child() -> None:
    """Lets the locks of a process end with it, though it may leave children behind."""
    for lock in list(_open):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)


def check_token(storage: Storage, token: str | None) -> None:
    """Checks that this process still holds the lock of a run folder.

    Args:
        storage: the run folder.
        token: of the lock; None checks nothing.

    Raises:
        RunFolderError: another process holds it.
    """
    holder = _read(storage) if token is not None else None
    if holder is not None and holder.token != token:
        raise RunFolderError(f"the run {storage.path!r} was taken over by {_named(holder)}")


def owns(storage: Storage, token: str | None) -> bool:
    """Whether `check_token` accepts the token."""
    try:
        check_token(storage, token)
    except RunFolderError as error:
        if isinstance(error, OSError):
            raise
        return False
    return True


def _read(storage: Storage) -> _Holder | None:
    try:
        where = storage.join(LEASE_FILE)
        return read_record(_Holder, parse_json(storage.read(LEASE_FILE), where), where)
    except (FileNotFoundError, RecordError):
        return None


def _age(storage: Storage, token: str) -> float:
    """Seconds since the lease was renewed, by the clock of the disk or store: that of a new file is now."""
    name = f"{LEASE_FILE}.{token[:8]}"
    storage.write(name, b"")
    try:
        return storage.modified(name) - storage.modified(LEASE_FILE)
    finally:
        storage.remove_file(name)


def _this_process(token: str, lock: list[int] | None) -> _Holder:
    boot: str | None = None
    pids: str | None = None
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        pids = os.readlink("/proc/self/ns/pid")
    return _Holder(token, socket.gethostname(), os.getpid(), _started(os.getpid()), boot, pids, lock)


def _started(pid: int) -> float | None:
    """Returns when a process of this machine started, in ticks of the kernel; None if it does not exist any more."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else float(fields[19])


def _runs(holder: _Holder) -> bool:
    """Whether a process that this one sees runs and has the lock."""
    if holder.pid == os.getpid() and holder.token not in _held:
        return False
    return _started(holder.pid) is not None and _started(holder.pid) == holder.started


def _is_near(holder: _Holder, here: _Holder) -> bool:
    """Whether a process is among those that this one sees."""
    return None not in (here.boot, here.pids) and (holder.boot, holder.pids) == (here.boot, here.pids)


def in_use(storage: Storage) -> str | None:
    """Returns the message for a run folder that another process has locked; None if that has ended, or there is none.

    Nothing is locked or written for it. Of a process elsewhere the age of its lease decides, by the clock of this host.
    """
    holder = _read(storage)
    if holder is None or not holder.pid:
        return None
    if _is_near(holder, _this_process("", None)):
        return _in_use(storage, holder, certain=True) if _runs(holder) else None
    with contextlib.suppress(OSError):
        if time.time() - storage.modified(LEASE_FILE) > _EXPIRES_AFTER_SECONDS:
            return None
    return _in_use(storage, holder, certain=False)


def _named(holder: _Holder | None) -> str:
    if holder is None or not holder.pid:
        return "another process"
    return f"process {holder.pid} on {printable(holder.host)}"


def _in_use(storage: Storage, holder: _Holder | None, certain: bool) -> str:
    """The message for a folder that is locked; `certain` if the kernel says that its holder is alive."""
    certain = certain or holder is None or _is_near(holder, _this_process("", None))
    doubt = "" if certain else f". (If it has died there, its lock expires within {_EXPIRES_AFTER_SECONDS:.0f} s)"
    return (
        f"the run {shown(storage.path)!r} is in use by {_named(holder)}: wait until it has ended, stop it, or start "
        f"another run with another name{doubt}"
    )
