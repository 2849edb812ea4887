"""The placement group of a trial's workers, noted in the run's folder so that another process can remove it."""

from __future__ import annotations

import re

from ray_classy.ray_compat.cluster import current_group, remove_group
from ray_classy.trainer.run_folder import RunFolder

GROUP_FILE = "placement_group"
_IDENTITY = re.compile(r"[0-9a-f]{36}")
_MOST_BYTES = 1024


def note(run: RunFolder) -> None:
    """Writes the id of this worker's placement group to the run's folder."""
    run.storage.write(GROUP_FILE, current_group().encode())


def release(run: RunFolder) -> bool:
    """Removes the placement group of the run's workers, which ends them; returns whether one was noted."""
    if not run.storage.exists(GROUP_FILE):
        return False
    identity = run.storage.read(GROUP_FILE, most_bytes=_MOST_BYTES).decode(errors="replace")
    if _IDENTITY.fullmatch(identity):
        remove_group(identity)
    run.storage.remove_file(GROUP_FILE)
    return True
