"""Where the modules that a config imports are looked for: never in the folder of a run, which may come from others."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from ray_classy.errors import RayClassyError
from ray_classy.job_driver import submitted_config
from ray_classy.records import parse_json
from ray_classy.storage import Storage
from ray_classy.urls import is_url

RUN_FILE = "run.json"
HINT = "name the folder of your modules with --code DIR"
_LEVELS_OF_A_RUN = 3  # the folders of a checkpoint, its trial and its sweep


def code_folder(config: Any) -> str | None:
    """The folder of a config's file, beside which its modules are looked for; None if only `sys.path` is searched."""
    file = getattr(config, "file", None)
    if not file or is_url(file):
        return None
    folder = os.path.dirname(os.path.abspath(file))
    return None if in_run(folder) else folder


def in_run(folder: str) -> bool:
    """Whether a folder is that of a run, or lies in one: a checkpoint's, or that of a trial's checkpoint."""
    for _ in range(_LEVELS_OF_A_RUN):
        if is_run(Storage(folder)):
            return True
        folder = os.path.dirname(folder)
    return False


def is_run(folder: Storage) -> bool:
    """Whether a folder has the record of a run; other programs may have a file of its name."""
    try:
        return folder.exists(RUN_FILE) and is_record(parse_json(folder.read(RUN_FILE), RUN_FILE))
    except (OSError, RayClassyError):
        return False


def is_record(facts: Any) -> bool:
    """Whether the content of a `run.json` is what a run writes there."""
    versions = facts.get("versions") if isinstance(facts, Mapping) else None
    return isinstance(versions, Mapping) and "ray_classy" in versions and "starts" in facts


def may_name_code(run: str, file: str) -> bool:
    """Whether modules are looked for beside the file that the record of a run names as that of its config.

    Whoever wrote the record could name any folder of the machine, so run and folder must both be this user's.

    Args:
        run: the run's folder.
        file: named in it.
    """
    return not is_url(run) and not is_url(file) and _is_own(run) and _is_own(os.path.dirname(file))


def code_words(config: Any, run: str) -> list[str]:
    """The words that a command needs so that a run finds its modules when it is resumed."""
    sent = submitted_config()
    folder = os.path.dirname(sent) if sent else code_folder(config)
    if not folder or not config.get("imports") or may_name_code(run, sent or config.file):
        return []
    return ["--code", folder]


def _is_own(folder: str) -> bool:
    """Whether a folder belongs to this user, and not everybody may write in it."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH
