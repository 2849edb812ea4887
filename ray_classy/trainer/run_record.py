"""`run.json` and `config.yaml` in a run's folder: what is run, how it was started, and how it ended."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray_classy import __version__
from ray_classy.config.document import Mark, Path
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.errors import ConfigError, RunFolderError
from ray_classy.job_driver import job_id
from ray_classy.records import parse_json_object, read_record
from ray_classy.redact import redacted, redacted_values
from ray_classy.storage import Storage
from ray_classy.urls import shown

RUN_FILE, CONFIG_FILE = "run.json", "config.yaml"
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_SECONDS_FOR_GIT = 2.0


@dataclass
class _Facts:
    """What is read of `run.json`, by a run and by a sweep; older versions did not write all of it."""

    status: str | None = None
    kind: str | None = None
    error: str | None = None
    stopped_early: str | None = None
    config_file: str | None = None
    given: dict[str, Any] | None = None
    starts: list[dict[str, Any]] | None = None
    taken_up: dict[str, Any] | None = None
    metric: str | None = None
    mode: str | None = None
    total: int | None = None
    config: dict[str, Any] | None = None


class RunRecord:
    """The record of a run.

    Args:
        storage: the run's folder.
        check_owner: raises an error if another process has taken the folder over.
    """

    def __init__(self, storage: Storage, check_owner: Callable[[], None] = lambda: None) -> None:
        self._storage, self._check_owner = storage, check_owner

    def exists(self) -> bool:
        """Whether anything is recorded in the folder."""
        return self._storage.exists(RUN_FILE)

    def facts(self) -> dict[str, Any]:
        """The content of `run.json`.

        Raises:
            RecordError: the file is damaged.
            OSError: the file cannot be read.
        """
        where = shown(self._storage.join(RUN_FILE))
        facts = parse_json_object(self._storage.read(RUN_FILE), where)
        read_record(_Facts, facts, where)
        return facts

    def config_facts(self) -> dict[str, Any]:
        """The resolved config and the SHA-256 of its file; None if the task was not built from one."""
        config: dict[str, Any] | None
        if not self._storage.exists(CONFIG_FILE):
            return {"config": None, "config_sha256": None}
        try:
            config = self.config()[0]
        except ConfigError:  # of a task built in Python, with arguments that no file can give
            config = None
        return {"config": config, "config_sha256": hashlib.sha256(self._storage.read(CONFIG_FILE)).hexdigest()}

    def config(self) -> tuple[dict[str, Any], dict[Path, Mark]]:
        """The resolved config, and the line of each value in it.

        Raises:
            ConfigError: the file is damaged.
            OSError: the file cannot be read.
        """
        file = shown(self._storage.join(CONFIG_FILE))
        try:
            values, marks = parse_yaml(self._storage.read(CONFIG_FILE).decode(), file)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file} is damaged: byte {error.start} is not UTF-8; restore it from a copy") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{file} is damaged: it is not a mapping; restore it from a copy")
        return values, marks

    def begin(self, config_text: str | None, command: list[str] | None, **facts: Any) -> None:
        """Records a start.

        Args:
            config_text: the resolved config, without secrets.
            command: what started the run; None for the command of this process.
            facts: recorded beside command and versions.
        """
        import importlib.metadata

        import numpy
        import torch

        self._check_owner()
        if config_text is not None:
            self._storage.write(CONFIG_FILE, config_text.encode())
        before = self.facts() if self.exists() else {}
        before = {name: fact for name, fact in before.items() if name not in ("error", "ended", "stopped_early")}
        start = {"command": command or sys.argv, "at": _now(), "cwd": os.getcwd(), **_commit(os.getcwd())}
        if (job := job_id()) is not None:
            start["job"] = job
        start.update({"host": platform.node(), "cpus": os.cpu_count()})
        versions = {
            "ray_classy": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": importlib.metadata.version("torchvision"),  # importing it takes seconds
            "numpy": numpy.__version__,
        }
        starts = [*(before.get("starts") or []), start]
        self._write({**before, **facts, "starts": starts, "versions": versions, "status": "running"})

    def resumed(self, checkpoint: str) -> None:
        """Records from which checkpoint the last start resumed, which it does again after a failure."""
        facts = self.facts()
        *before, last = facts.get("starts") or [{}]
        resumes = [*(last.get("resumes") or []), {"checkpoint": checkpoint, "at": _now()}]
        self.amend(starts=[*before, {**last, "resumed_from": checkpoint, "resumes": resumes}])

    def amend(self, **facts: Any) -> None:
        """Records facts beside those that there are."""
        self._write({**self.facts(), **facts})

    def end(self, status: str, error: str | None, stopped_early: str | None = None) -> None:
        """Records how the run ended."""
        failure = {"error": redacted(error)} if error is not None else {}
        early = {"stopped_early": stopped_early} if stopped_early is not None else {}
        self._write({**self.facts(), **failure, **early, "status": status, "ended": _now()})

    def _write(self, facts: dict[str, Any]) -> None:
        self._check_owner()
        self._storage.write(RUN_FILE, (json.dumps(redacted_values(facts), indent=2, default=str) + "\n").encode())


def check_name(name: str) -> None:
    """Checks the name of a run.

    Raises:
        RunFolderError: no folder can have it.
    """
    if not name or {"/", "\0"} & set(name) or name in (".", ".."):
        raise RunFolderError(f"a run's name is the name of its folder: {name!r} cannot be one")


def _commit(folder: str) -> dict[str, Any]:
    """The entries for the commit that is checked out in the git repository of a folder, if it is in one."""
    while not os.path.isdir(f"{folder}/.git"):
        if folder == (folder := os.path.dirname(folder)):
            return {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        head = pathlib.Path(folder, ".git", "HEAD").read_text().strip()
        name = head.removeprefix("ref: ")
        file = pathlib.Path(folder, ".git", name)
        commit = head if name == head else file.read_text().strip() if file.is_file() else _packed(folder, name)
        if _COMMIT.fullmatch(commit):
            return {"commit": commit, **_uncommitted(folder)}
    return {}


@functools.cache
def _uncommitted(folder: str) -> dict[str, bool]:
    """The entry that says whether tracked files of a git repository differ from its commit; none if git cannot say."""
    command = [
        "git",
        "--no-optional-locks",
        "-c",
        "core.fsmonitor=false",
        "-C",
        folder,
        "status",
        "--porcelain",
        "-uno",
    ]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(command, capture_output=True, timeout=_SECONDS_FOR_GIT, stdin=subprocess.DEVNULL)
        if found.returncode == 0:
            return {"uncommitted_changes": bool(found.stdout.strip())}
    return {}


def _packed(folder: str, name: str) -> str:
    """The commit of a branch that git has packed with others."""
    lines = pathlib.Path(folder, ".git", "packed-refs").read_text().splitlines()
    return next((line.partition(" ")[0] for line in lines if line.endswith(f" {name}")), "")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
