"""What a run says when its folder cannot be written any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ray_classy.errors import RunFolderError
from ray_classy.trainer.run_folder import RUN_FILE, RunFolder
from ray_classy.urls import reason, shown


@contextlib.contextmanager
def told_how_to_go_on(run: RunFolder) -> Iterator[None]:
    """Makes a `RunFolderError` of a failure of the store in the block, which says what the run still has.

    Args:
        run: whose files are written in the block.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{reason(error)}. {_way_on(run)}") from error


def _way_on(run: RunFolder) -> str:
    path = shown(run.path)
    go_on = f"go on with --resume {path}"
    try:
        if not run.storage.exists(RUN_FILE):
            return f"The run's folder {path} is no longer what it was: put it back, then {go_on}"
        last = run.latest_checkpoint()
    except OSError:
        return f"When the folder can be read and written again, {go_on}"
    if last is None:
        return f"The run has no checkpoint yet: when that is mended, begin it anew with --resume {path}"
    return f"The last good checkpoint is {shown(last)}: when that is mended, {go_on}"
