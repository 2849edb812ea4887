"""What a job runs on a cluster, and what it needs there."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from ray_classy import __version__

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

    @property
    def entrypoint(self) -> str:
        """The shell command of the job."""
        return "exec " + shlex.join(["python", "-m", DRIVER, *self.words])  # exec: signals reach it, not a shell

    @property
    def metadata(self) -> dict[str, str]:
        """What the cluster keeps beside the job, for `--status`, `--attach` and `--stop`."""
        facts = {"ray_classy": __version__, "command": self.words[0], "name": self.name, "run": self.run}
        return {key: value for key, value in facts.items() if value is not None}


def safe_name(text: str) -> str:
    """A text as a part of the id of a job: of letters, digits, `-`, `_` and `.`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "run"
