"""The folder of a run.

config.yaml            the resolved config, if the task was built from one
run.json               command, seed, versions, and how the run ended
metrics.jsonl          one line per phase, as it happens
log.txt                what rank 0 logged
lease.json             the lock: the process that trains in the folder
stop, save             there once the run is asked to stop, or to write a checkpoint
epoch_0003-step_000690/checkpoint.torch, manifest.json
last, best             links to the newest checkpoint, and to the best one of those at the end of a round
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import secrets
import sys
import time
from collections.abc import Container, Mapping
from typing import Any, Self

from ray_classy import __version__
from ray_classy.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from ray_classy.checkpoint.files import BEST, LAST, checkpoints_in, position_of
from ray_classy.checkpoint.manifest import read_manifest
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.errors import CheckpointNotFoundError, ConfigError, DamagedCheckpointError, RunFolderError
from ray_classy.storage import Storage, is_url
from ray_classy.trainer.lease import LEASE_FILE, Lease, check_token
from ray_classy.trainer.log_file import LogFile
from ray_classy.trainer.metrics import dotted, train_phase_of
from ray_classy.trainer.retention import Retention
from ray_classy.urls import reason, split_query

_log = logging.getLogger(__name__)

DEFAULT_STORAGE_PATH = "runs"
METRICS_FILE, LOG_FILE, RUN_FILE, CONFIG_FILE = "metrics.jsonl", "log.txt", "run.json", "config.yaml"
STOP_FILE, SAVE_FILE = "stop", "save"
_BEGINS_WITHIN_SECONDS = 10.0


class RunFolder:
    """A run's folder, as its driver and its rank 0 see it.

    Args:
        path: the folder, local or a URL.
        filesystem: a `pyarrow.fs.FileSystem` in which it lies; None finds it from the path.
        token: of the lease under which this process writes.

    Attributes:
        described: whether this process has written down what it runs in the folder.
    """

    KIND: str | None = None

    def __init__(self, path: str, filesystem: Any = None, token: str | None = None) -> None:
        self.storage = Storage(path, filesystem)
        self.token = token
        self._log_file = LogFile(self.storage, LOG_FILE)
        self._lease: Lease | None = None
        self._made = False
        self._unwritable: set[str] = set()  # pointers that cannot be written
        self.described = False
        self._manifests: dict[str, dict[str, Any]] = {}

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
        if run.storage.exists("" if run.storage.local else RUN_FILE) and not run._empty():
            raise _taken(run)
        return run

    @classmethod
    def named(cls, storage_path: str | None, name: str | None, filesystem: Any = None) -> Self:
        """The folder that a run of that name has or would have.

        Raises:
            RunFolderError: there can be no such folder.
        """
        if name is not None and (not name or "/" in name or name in (".", "..")):
            raise RunFolderError(f"a run's name is the name of its folder: {name!r} cannot be one")
        parent = Storage(storage_path or DEFAULT_STORAGE_PATH, filesystem)
        if parent.local and os.path.exists(parent.path) and not os.path.isdir(parent.path):
            raise RunFolderError(f"the storage path {parent.path!r} is a file; give a folder (storage_path)")
        return cls(parent.join(name or new_name()), filesystem)

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
        run._made = run.storage.local or not run.storage.names()
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

        Raises:
            RunFolderError: it is not a run folder.
        """
        run = cls(path if is_url(path) or filesystem is not None else os.path.abspath(path), filesystem)
        if not run.storage.exists(RUN_FILE):
            near = [name for name in Storage(os.path.dirname(run.path), filesystem).names()][-5:]
            raise RunFolderError(
                f"{path!r} is no run folder: it has no {RUN_FILE}"
                + (f"; beside it there are {', '.join(near)}" if near else "")
            )
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
        if not self.storage.local or not os.path.isdir(self.path) or not set(os.listdir(self.path)) <= {LEASE_FILE}:
            return False
        return time.time() - os.stat(self.path).st_mtime > _BEGINS_WITHIN_SECONDS

    def _hold(self) -> None:
        self._lease = Lease(self.storage)
        self.token = self._lease.token

    def release(self) -> None:
        """Lets go of the folder."""
        self.flush_log()
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    # -- what the driver writes ---------------------------------------------------------------------------------------

    def describe(self, config_text: str | None, command: list[str] | None = None, **facts: Any) -> None:
        """Writes down what is run.

        Args:
            config_text: the resolved config.
            command: what began it; None for the command of this process.
            facts: to be kept beside command and versions.
        """
        import numpy
        import torch
        import torchvision

        if config_text is not None:
            self.storage.write(CONFIG_FILE, config_text.encode())
        before = self.facts() if self.storage.exists(RUN_FILE) else {}
        before = {name: fact for name, fact in before.items() if name not in ("error", "ended")}
        starts = [*before.get("starts", []), {"command": command or sys.argv, "at": _now(), "cwd": os.getcwd()}]
        versions = {
            "ray_classy": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": numpy.__version__,
        }
        if self.KIND is not None:
            facts["kind"] = self.KIND
        run = {**before, **facts, "name": self.name, "starts": starts, "versions": versions, "status": "running"}
        self._write_facts(run)
        self.described = True
        self._forget_requests()

    def facts(self) -> dict[str, Any]:
        """The content of `run.json`."""
        return json.loads(self.storage.read(RUN_FILE))

    def config_facts(self) -> dict[str, Any]:
        """The resolved config and the SHA-256 of its file; None if the task was not built from one."""
        config: dict[str, Any] | None
        if not self.storage.exists(CONFIG_FILE):
            return {"config": None, "config_sha256": None}
        data = self.storage.read(CONFIG_FILE)
        try:
            config, _ = parse_yaml(data.decode(), CONFIG_FILE)
        except ConfigError:  # of a task built in Python, with arguments that no file can give
            config = None
        return {"config": config, "config_sha256": hashlib.sha256(data).hexdigest()}

    def finish(self, status: str, error: str | None = None) -> None:
        """Records how the run ended: "finished", "failed" (with its error), "interrupted" or "stopped".

        Raises:
            RunFolderError: another process has taken the run over; its record stays.
        """
        self.flush_log()
        check_token(self.storage, self.token)
        failure = {"error": error} if error is not None else {}
        self._write_facts({**self.facts(), **failure, "status": status, "ended": _now()})
        self._forget_requests()

    def request_stop(self) -> None:
        """Asks whoever trains in this folder to write a checkpoint and stop."""
        self.storage.write(STOP_FILE, b"")

    def stop_requested(self) -> bool:
        """Whether the run is asked to stop."""
        return self.storage.exists(STOP_FILE)

    def request_checkpoint(self) -> None:
        """Asks whoever trains in this folder to write a checkpoint as soon as possible."""
        self.storage.write(SAVE_FILE, b"")

    def checkpoint_requested(self) -> bool:
        """Whether a checkpoint is asked for."""
        return self.storage.exists(SAVE_FILE)

    def forget_checkpoint_request(self) -> None:
        """Forgets that a checkpoint was asked for; that the run is to stop stays."""
        if self.checkpoint_requested():
            self.storage.remove_file(SAVE_FILE)

    def _forget_requests(self) -> None:
        self.forget_checkpoint_request()
        if self.stop_requested():
            self.storage.remove_file(STOP_FILE)

    def remove_if_unused(self) -> None:
        """Removes the folder of a run in which nothing happened, if this process made it, so that its name is free."""
        if self._made and not self._used():
            self.release()
            self.storage.remove_all()
            self._made = False

    def _used(self) -> bool:
        """Whether the folder has anything that is worth keeping."""
        return any(map(self.storage.exists, (LOG_FILE, METRICS_FILE))) or bool(self.checkpoints())

    def _write_facts(self, run: dict[str, Any]) -> None:
        self.storage.write(RUN_FILE, (json.dumps(run, indent=2, default=str) + "\n").encode())

    # -- what rank 0 writes -------------------------------------------------------------------------------------------

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a last line that was cut off by a kill is passed over."""
        return self.storage.json_lines(METRICS_FILE)

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Adds a line to `metrics.jsonl`."""
        check_token(self.storage, self.token)
        self.storage.append(METRICS_FILE, json.dumps(line) + "\n")

    def keep_metrics_until(self, epoch: int, tested: bool) -> None:
        """Drops the lines of phases that are about to be run again.

        Args:
            epoch: the last train phase that is over, counted from 1; 0 drops all.
            tested: whether the test phase after it is over as well.
        """
        lines = self.metrics()
        last = (epoch, tested)
        kept = [line for line in lines if epoch and (train_phase_of(line), line["phase_type"] == "test") <= last]
        if lines or self.storage.exists(METRICS_FILE):
            self.storage.write(METRICS_FILE, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def log(self, text: str) -> None:
        """Appends a line to `log.txt`; in a store, in the background.

        Raises:
            StorageError: the local disk cannot be written.
        """
        self._log_file.add(text)

    def flush_log(self) -> None:
        """Waits until the lines logged so far are in `log.txt`, or the store has refused them."""
        self._log_file.flush()

    def tell(self, text: str) -> None:
        """Appends a line with the time to `log.txt` at once, if it can be written: a run is worth more than its log."""
        with contextlib.suppress(OSError):
            self.log(f"{time.strftime('%H:%M:%S')}  {text}")
            self.flush_log()

    def write_checkpoint(self, name: str, content: dict[str, Any], facts: Mapping[str, Any] | None = None) -> str:
        """Writes a checkpoint folder of that name, with a manifest of `facts`, and returns its path."""
        check_token(self.storage, self.token)
        self._manifests.pop(name, None)
        save_checkpoint(name, content, storage=self.storage, facts=facts)
        return self.storage.join(name)

    def checkpoints(self) -> list[str]:
        """The names of the run's complete checkpoints, oldest first."""
        return checkpoints_in(self.storage)

    def keep_checkpoints(self, retention: Retention, pinned: Container[str] = ()) -> None:
        """Points `last` and `best` to their checkpoints, and removes those that the retention does not keep.

        Args:
            retention: which ones are kept.
            pinned: names of checkpoints that are kept besides.
        """
        names = self.checkpoints()
        metrics = self._metrics_of(names)
        away = [name for name in retention.superfluous(metrics) if name not in pinned]
        best = retention.best({name: values for name, values in metrics.items() if name not in away})
        for pointer, name in ((LAST, names[-1] if names else None), (BEST, best)):
            if name is not None:
                self._point(pointer, name)
        for name in away:
            self.remove_checkpoint(name)

    def _point(self, pointer: str, name: str) -> None:
        """Points `last` or `best` to a checkpoint; one that cannot be written is warned of once, and ends no run."""
        try:
            if self.storage.pointed(pointer) != name:
                self.storage.point(pointer, name)
        except OSError as error:
            if pointer not in self._unwritable:
                _log.warning("%s cannot be pointed to %s: %s", self.storage.join(pointer), name, reason(error))
            self._unwritable.add(pointer)

    def _metrics_of(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """The metrics of the checkpoints at the end of a round, by name."""
        manifests = {name: self._manifest(name) for name in names}
        return {n: dotted(m.get("metrics") or {}) for n, m in manifests.items() if m.get("in_phase") is None}

    def _manifest(self, name: str) -> dict[str, Any]:
        if name not in self._manifests:
            self._manifests[name] = read_manifest(self.storage, name) or {}
        return self._manifests[name]

    def best_checkpoint(self) -> str | None:
        """The path of the checkpoint that `best` links to."""
        name = self.storage.pointed(BEST)
        return self.storage.join(name) if name is not None else None

    def remove_checkpoint(self, name: str) -> None:
        """Removes a checkpoint."""
        self.storage.remove(name)

    def latest_checkpoint(self) -> str | None:
        """The path of the newest complete checkpoint."""
        names = self.checkpoints()
        return self.storage.join(names[-1]) if names else None

    def load_checkpoint(self, name: str) -> dict[str, Any]:
        """Reads one of the run's checkpoints.

        Raises:
            DamagedCheckpointError: its content is not what was written.
            StorageError: it cannot be read.
        """
        return load_checkpoint(f"{name}/{CHECKPOINT_FILE}", self.storage)

    def load_latest_checkpoint(self) -> tuple[str, dict[str, Any]] | None:
        """Reads the newest intact checkpoint, and logs a warning for each damaged one that is newer.

        Returns:
            Its name and content; None if the run has no checkpoint.

        Raises:
            DamagedCheckpointError: there are checkpoints, and all are damaged.
            CheckpointError: the newest intact one cannot be loaded in this environment.
            StorageError: one cannot be read. A store that fails is no reason to resume from an older one.
        """
        damaged: list[str] = []
        for name in reversed(self.checkpoints()):
            try:
                content = self.load_checkpoint(name)
            except (DamagedCheckpointError, CheckpointNotFoundError) as error:
                damaged.append(str(error))
                continue
            for text in damaged:
                _log.warning("%s; resuming from the one before", text)
            return name, content
        if damaged:
            count = "the only checkpoint" if len(damaged) == 1 else f"each of the {len(damaged)} checkpoints"
            raise DamagedCheckpointError(f"{count} of the run is damaged; the newest: {damaged[0]}")
        return None


def new_name() -> str:
    """A name for a run, made from the time and a random part."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _taken(run: RunFolder) -> RunFolderError:
    return RunFolderError(
        f"there is a run {run.name!r} in {os.path.dirname(run.path)!r} already. To resume it: --resume {run.path}; "
        f"to start a new one, give another name"
    )


def epoch_of(checkpoint: str) -> int:
    """The train phases that were over when a checkpoint of that name was written."""
    return position_of(checkpoint)[0]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
