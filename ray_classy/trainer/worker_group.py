"""The placement group of a trial's workers, noted in the run's folder so that another process can remove it."""

from __future__ import annotations

from ray_classy.ray_compat.cluster import current_group, remove_group
from ray_classy.trainer.run_folder import RunFolder

GROUP_FILE = "placement_group"


def note(run: RunFolder) -> None:
    """Writes the id of this worker's placement group to the run's folder."""
    run.storage.write(GROUP_FILE, current_group().encode())


def release(run: RunFolder) -> bool:
    """Removes the placement group of the run's workers, which ends them; returns whether one was noted."""
    if not run.storage.exists(GROUP_FILE):
        return False
    remove_group(run.storage.read(GROUP_FILE).decode())
    run.storage.remove_file(GROUP_FILE)
    return True
