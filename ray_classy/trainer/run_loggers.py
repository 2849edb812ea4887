"""What loggers are given of a run: its name and config, and the ids that they gave it when it started earlier."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ray_classy.config.changes import flat
from ray_classy.hooks.run_logger_hook import LoggedRun
from ray_classy.redact import redacted_values
from ray_classy.trainer.run_folder import RunFolder

_RECORDED = "loggers"  # the entry of `run.json`
_writes_record = threading.Lock()  # each logger has a thread


def logged_run(folder: RunFolder, config: Mapping[str, Any] | None) -> LoggedRun:
    """Describes a run that has a folder.

    Args:
        folder: in whose record the ids are kept.
        config: of the run, nested; None if it was built in Python.
    """

    def recorded() -> dict[str, str]:
        found = folder.record.facts().get(_RECORDED) if folder.record.exists() else None
        return {str(logger): str(id) for logger, id in found.items()} if isinstance(found, dict) else {}

    def keep(logger: str, id: str) -> None:
        with _writes_record:
            folder.record.amend(**{_RECORDED: {**recorded(), logger: id}})

    return LoggedRun(folder.name, folder.path, flat(redacted_values(config or {})), recorded(), keep)
