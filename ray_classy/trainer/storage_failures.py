"""Errors of a run whose folder can no longer be read or written, with the way to resume it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ray_classy.errors import RunFolderError
from ray_classy.printable import shell_word
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.urls import reason, shown


@contextlib.contextmanager
def explain_storage_errors(run: RunFolder) -> Iterator[None]:
    """Converts an `OSError` in the block to a `RunFolderError` that says what is left of the run and how to resume it.

    Args:
        run: the run whose files the block writes.

    Raises:
        RunFolderError: the block raised an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{reason(error)}. {_how_to_resume(run)}") from error


def _how_to_resume(run: RunFolder) -> str:
    path = shell_word(shown(run.path))
    resume = f"resume with --resume {path}"
    try:
        if not run.record.exists():
            return f"The run's folder {path} was moved or replaced: restore it, then {resume}"
        last = run.checkpoints.latest()
    except OSError:
        return f"Once the folder can be read and written again, {resume}"
    if last is None:
        return f"The run has no checkpoint yet; once that is fixed, restart it with --resume {path}"
    return f"The last good checkpoint is {shown(last)}; once that is fixed, {resume}"
