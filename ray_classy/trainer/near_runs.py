"""The runs that may be meant by a path at which there is none, for error messages."""

from __future__ import annotations

import contextlib
import difflib
import os
from typing import Any

from ray_classy.errors import RunFolderError
from ray_classy.printable import printable
from ray_classy.storage import Storage
from ray_classy.trainer.run_record import RUN_FILE
from ray_classy.urls import parent, shown, split_query

_MOST_NAMED = 5


def not_a_run(path: str, filesystem: Any = None) -> RunFolderError:
    """The error for a path that is not the folder of a run.

    Args:
        path: a path or URL.
        filesystem: a `pyarrow.fs.FileSystem` in which it lies; None finds it from the path.
    """
    folder = Storage(path, filesystem)
    if folder.local and os.path.isfile(folder.path):
        found = "it is a file"
    else:
        found = f"it has no {RUN_FILE}" if folder.exists() else "there is nothing of that name"
    return RunFolderError(f"{shown(path)!r} is not a run folder: {found}{near_runs(path, filesystem)}")


def near_runs(path: str, filesystem: Any = None) -> str:
    """The end of a message: the runs that may be meant by a path; arguments as for `not_a_run`."""
    folder = Storage(path, filesystem)
    beside = Storage(parent(folder.path.rstrip("/")), filesystem)
    if beside.exists(RUN_FILE):
        return f"; it is in the run {shown(beside.path)!r}"
    if within := runs_in(folder):
        return f"; the runs in it are {_newest(within)}"
    name = os.path.basename(split_query(folder.path)[0].rstrip("/"))
    runs = [other for other in runs_in(beside) if other != name]
    near = difflib.get_close_matches(name, runs, n=3)
    if near:
        return f"; did you mean {' or '.join(repr(printable(one)) for one in near)}?"
    return f"; the runs beside it are {_newest(runs)}" if runs else ""


def runs_in(folder: Storage) -> list[str]:
    """The names of the runs in a folder, oldest first; in a store, of everything in it, in alphabetical order."""
    names = folder.names()
    if not folder.local:
        return names
    times = {}
    for name in names:
        with contextlib.suppress(OSError):
            times[name] = folder.modified(f"{name}/{RUN_FILE}")
    return sorted(times, key=lambda name: times[name])


def _newest(runs: list[str]) -> str:
    more = "..., " if len(runs) > _MOST_NAMED else ""
    return more + printable(", ".join(runs[-_MOST_NAMED:]))
