"""What a job runs on a cluster, and what it needs there."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from ray_classy import __version__
from ray_classy.redact import is_secret, redacted
from ray_classy.urls import is_url

DRIVER = "ray_classy.cli.on_cluster"
"""The module that runs the command of a job."""


@dataclass(frozen=True)
class Job:
    """A command of `ray-classy` that runs as a job.

    Attributes:
        words: of the command line after `ray-classy`; a config that is sent lies in the working directory.
        name: of the run or sweep, or one made from the command.
        run: the folder or URL of the run or sweep; None for commands that make none.
        config_file: the file that is sent as the config; None if none is.
        config_text: its content, where it is not a file of this machine.
        code: the folder of the user's modules; None if there are none.
        imports: their dotted names.
        ray: the `ray` section of the config.
        remarks: lines for the user.
        digest: of the command and its config, by which a job is recognized that was submitted before.
    """

    words: list[str]
    name: str
    run: str | None = None
    config_file: str | None = None
    config_text: bytes | None = None
    code: str | None = None
    imports: list[str] = field(default_factory=list)
    ray: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    digest: str | None = None

    @property
    def entrypoint(self) -> str:
        """The shell command of the job."""
        return "exec " + shlex.join(["python", "-m", DRIVER, *self.words])  # exec: signals reach it, not a shell

    @property
    def metadata(self) -> dict[str, str]:
        """What the cluster keeps beside the job, for `--status`, `--attach` and `--stop`."""
        facts = {"ray_classy": __version__, "command": self.words[0], "name": self.name, "run": self.run}
        facts["digest"] = self.digest
        return {key: value for key, value in facts.items() if value is not None}

    @property
    def places(self) -> list[str]:
        """The paths of folders and files in the command, which all nodes must see."""
        words = [word for word in self.words[1:] if not is_url(word)]
        values = [word if os.path.isabs(word) else word.partition("=")[2].strip('"') for word in words]
        return [value for value in dict.fromkeys(values) if os.path.isabs(value)]

    @property
    def secrets(self) -> list[str]:
        """What holds a secret that the cluster shows in the clear."""
        variables = (self.ray.get("runtime_env") or {}).get("env_vars") or {}
        found = ["the command line"] if redacted(self.entrypoint) != self.entrypoint else []
        return found + [f"ray.runtime_env.env_vars.{name}" for name in variables if is_secret(str(name))]


def safe_name(text: str) -> str:
    """A text as a part of the id of a job: of letters, digits, `-`, `_` and `.`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "run"
