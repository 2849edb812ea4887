"""The folder of a run.

config.yaml            the resolved config, if the task was built from one
run.json               command, seed, versions, and how the run ended
metrics.jsonl          one line per phase, as it happens
steps.jsonl            a line within phases, as often as the log has one
log.txt                what rank 0 logged
lease.json, lock       the process that trains in the folder, and its file lock
stop, save             there once the run is asked to stop, or to write a checkpoint
epoch_0003-step_000690/checkpoint.torch, manifest.json
last, best             links to the newest checkpoint, and to the best one of those at the end of a round
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from typing import Any, Self

from ray_classy.checkpoint.files import run_of_checkpoint
from ray_classy.errors import RunFolderError
from ray_classy.printable import printable_lines, shell_word
from ray_classy.ray_compat.train import FILES_IN_RUNS
from ray_classy.redact import redacted
from ray_classy.storage import Storage
from ray_classy.trainer.lease import LEASE_FILE, LOCK_FILE, Lease, check_token, in_use, owns
from ray_classy.trainer.log_file import LogFile
from ray_classy.trainer.near_runs import not_a_run
from ray_classy.trainer.run_checkpoints import RunCheckpoints
from ray_classy.trainer.run_metrics import METRICS_FILE, RunMetrics
from ray_classy.trainer.run_record import CONFIG_FILE, RUN_FILE, RunRecord, check_name
from ray_classy.trainer.run_requests import SAVE_FILE, STOP_FILE, Requests
from ray_classy.trainer.run_steps import RunSteps
from ray_classy.urls import parent, shown, split_query

DEFAULT_STORAGE_PATH = "runs"
LOG_FILE, PROGRESS_FILE = "log.txt", "progress.json"
_BEGINS_WITHIN_SECONDS = 10.0
_TEMPORARY_NAME = re.compile(r".+\.[0-9a-f]{8}\.half|lease\.json\.[0-9a-f]{8}")
"""The names under which `Storage` writes a file, and the lock looks at the clock of a disk."""


class RunFolder:
    """A run's folder, as its driver and its rank 0 see it.

    Args:
        path: the folder, local or a URL.
        filesystem: a `pyarrow.fs.FileSystem` in which it lies; None finds it from the path.
        token: of the lease under which this process writes.

    Attributes:
        described: whether this process has recorded what it runs in the folder.
        record: what is run, and how it ended.
        requests: to stop, or to write a checkpoint.
        metrics: of each phase.
        steps: of the progress within phases.
        checkpoints: the run's.
    """

    KIND: str | None = None
    FILES_OF_A_START = frozenset(
        {RUN_FILE, CONFIG_FILE, LEASE_FILE, LOCK_FILE, STOP_FILE, SAVE_FILE, PROGRESS_FILE, *FILES_IN_RUNS}
    )
    """What there is in the folder of a run in which nothing happened."""

    def __init__(self, path: str, filesystem: Any = None, token: str | None = None) -> None:
        self.storage = Storage(path, filesystem)
        self.token = token
        self._log_file = LogFile(self.storage, LOG_FILE, owned=self._owned)
        self._lease: Lease | None = None
        self._made = False
        self.described = False
        self.record = RunRecord(self.storage, self.check_owner)
        self.requests = Requests(self.storage, self.check_owner)
        self.metrics = RunMetrics(self.storage, self.check_owner)
        self.steps = RunSteps(self.storage, self._owned)
        self.checkpoints = RunCheckpoints(self.storage, self.check_owner)

    @property
    def path(self) -> str:
        """The folder."""
        return self.storage.path

    @property
    def name(self) -> str:
        """The run's name: the folder's."""
        return os.path.basename(split_query(self.path)[0].rstrip("/"))

    # -- opening ------------------------------------------------------------------------------------------------------

    @classmethod
    def planned(cls, storage_path: str | None, name: str | None, filesystem: Any = None) -> Self:
        """The folder that `create` would make with the same arguments; nothing is made.

        Raises:
            RunFolderError: a run of that name exists, or there can be no such folder.
        """
        run = cls.named(storage_path, name, filesystem)
        if not (run._empty() if run.storage.local and run.storage.exists() else run._never_began()):
            raise _taken(run)
        return run

    @classmethod
    def named(cls, storage_path: str | None, name: str | None, filesystem: Any = None) -> Self:
        """The folder that a run of that name has or would have.

        Raises:
            RunFolderError: there can be no such folder.
        """
        if name is not None:
            check_name(name)
        runs = Storage(storage_path or DEFAULT_STORAGE_PATH, filesystem)
        if runs.local and os.path.exists(runs.path) and not os.path.isdir(runs.path):
            raise RunFolderError(f"the storage path {runs.path!r} is a file; give a folder (storage_path)")
        return cls(runs.join(name or new_name()), filesystem)

    @classmethod
    def create(cls, storage_path: str | None, name: str | None, filesystem: Any = None) -> Self:
        """Makes the folder of a new run and locks it.

        Args:
            storage_path: the folder of runs; None is `runs` in the working directory.
            name: the run's name; None makes one from the time.
            filesystem: see the class.

        Raises:
            RunFolderError: a run of that name exists, or the folder cannot be made.
        """
        run = cls.planned(storage_path, name, filesystem)
        Storage(storage_path or DEFAULT_STORAGE_PATH, filesystem).make()
        run._made = not run.storage.exists()
        try:
            if run.storage.local:
                os.makedirs(run.path, exist_ok=run._empty())
        except FileExistsError:
            raise _taken(run) from None
        except OSError as error:
            raise RunFolderError(f"cannot make the run folder {run.path!r}: {error.strerror or error}") from None
        try:
            run._hold()
        except OSError:
            run.storage.remove_if_empty("")
            raise
        return run

    @classmethod
    def existing(cls, path: str, filesystem: Any = None) -> Self:
        """The folder of an earlier run, to look into; it is not locked.

        Args:
            path: the folder, or in it `last` or the newest checkpoint.
            filesystem: see the class.

        Raises:
            RunFolderError: it is not a run folder, or is an older checkpoint.
        """
        run = cls(path, filesystem)
        if not run.record.exists():
            above, checkpoint = run_of_checkpoint(run.path, filesystem)
            if above is not None and cls(above, filesystem).record.exists():
                run = cls(above, filesystem)
                newest = run.checkpoints.names()[-1:]
                if [checkpoint] != newest:
                    raise RunFolderError(
                        f"{shown(path)!r} is not the newest checkpoint of its run, {newest[0]}, which alone is resumed:"
                        f" give the run's folder, {shown(run.path)!r}, or start a new run from this checkpoint with "
                        f"--checkpoint"
                    )
                return run
            raise not_a_run(path, filesystem)
        return run

    @classmethod
    def resume(cls, path: str, filesystem: Any = None) -> Self:
        """Opens the folder of an earlier run and locks it.

        Raises:
            RunFolderError: it is not a run folder, or another process trains in it.
        """
        run = cls.existing(path, filesystem)
        run._hold()
        return run

    def _empty(self) -> bool:
        """Whether the folder was made some time ago, and the process died before it wrote down what it would run."""
        if not self.storage.local or not os.path.isdir(self.path) or not self._never_began():
            return False
        return time.time() - os.stat(self.path).st_mtime > _BEGINS_WITHIN_SECONDS

    def _never_began(self) -> bool:
        """Whether the folder has nothing but the lock of a run, and what is written before its record."""
        names = {name for name in self.storage.names() if not _TEMPORARY_NAME.fullmatch(name)}
        known = self.FILES_OF_A_START - {RUN_FILE} if LEASE_FILE in names else {LOCK_FILE}
        return names <= known

    def check_owner(self) -> None:
        """Checks that no other process has taken the folder over from the one that gave this object its token.

        Raises:
            RunFolderError: one has.
        """
        check_token(self.storage, self.token)

    def _owned(self) -> bool:
        return owns(self.storage, self.token)

    def _hold(self) -> None:
        self._lease = Lease(self.storage)
        self.token = self._lease.token

    def release(self) -> None:
        """Lets go of the folder."""
        self.flush_log()
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    # -- from the start to the end ------------------------------------------------------------------------------------

    def describe(self, config_text: str | None, command: list[str] | None = None, **facts: Any) -> None:
        """Records a start.

        Args:
            config_text: the resolved config.
            command: what started the run; None for the command of this process.
            facts: recorded beside command and versions.
        """
        kind = {"kind": self.KIND} if self.KIND is not None else {}
        self.record.begin(config_text, command, **{**facts, **kind, "name": self.name})
        self.described = True

    def finish(self, status: str, error: str | None = None, stopped_early: str | None = None) -> None:
        """Records how the run ended.

        Args:
            status: "finished", "failed", "interrupted" or "stopped".
            error: of a run that failed.
            stopped_early: why a run is finished before its last phase.

        Raises:
            RunFolderError: another process has taken the run over; its record stays.
        """
        self.flush_log()
        self.check_owner()
        self.record.end(status, error, stopped_early)
        self.requests.forget()

    def remove_if_unused(self) -> None:
        """Removes the folder of a run in which nothing happened, if this process made it, so that its name is free."""
        if self._made and not self._used():
            self.release()
            if set(self.storage.names()) <= self.FILES_OF_A_START:
                self.storage.remove_all()
            self._made = False

    def _used(self) -> bool:
        """Whether the folder has anything that is worth keeping."""
        return any(map(self.storage.exists, (LOG_FILE, METRICS_FILE))) or bool(self.checkpoints.names())

    def log(self, text: str) -> None:
        """Appends a line to `log.txt`; in a store, in the background.

        Raises:
            StorageError: the local disk cannot be written.
        """
        self._log_file.add(printable_lines(redacted(text)))

    def flush_log(self) -> None:
        """Waits until the lines logged so far are in `log.txt`, or the store has refused them."""
        self._log_file.flush()
        self.steps.flush()

    def log_now(self, text: str) -> None:
        """Appends a line with the time to `log.txt` at once, if it can be written: a run is worth more than its log."""
        with contextlib.suppress(OSError):
            self.log(f"{time.strftime('%H:%M:%S')}  {text}")
            self.flush_log()


def new_name() -> str:
    """A name for a run, made from the time and a random part."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _taken(run: RunFolder) -> RunFolderError:
    held = in_use(run.storage)
    if held is not None:
        return RunFolderError(held)
    if not os.path.isfile(run.path) and run._never_began():
        return RunFolderError(
            f"{shown(run.path)} is being started by another process: give another name, or try again in "
            f"{_BEGINS_WITHIN_SECONDS:.0f} s if that was killed"
        )
    if not run.record.exists():
        return RunFolderError(f"{shown(run.path)} has other files than those of a run: give another name")
    return RunFolderError(
        f"there is a run {run.name!r} in {parent(run.path)!r} already. To resume it: --resume {shell_word(run.path)}; "
        f"to start a new one, give another name"
    )
