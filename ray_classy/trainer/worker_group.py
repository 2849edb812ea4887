"""What the workers of a run hold in the cluster, so that it can be freed if nobody else does.

In plain Ray, the placement group of a Ray Train run outlives its controller where there is no dashboard.
"""

from __future__ import annotations

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from ray_classy.trainer.run_folder import RunFolder

GROUP_FILE = "placement_group"


def note(run: RunFolder) -> None:
    """Writes down in the run's folder what holds the place of this worker and its siblings."""
    run.storage.write(GROUP_FILE, ray.util.get_current_placement_group().id.hex().encode())


def release(run: RunFolder) -> bool:
    """Frees what the run's workers hold, which ends them; whether they held something."""
    if not run.storage.exists(GROUP_FILE):
        return False
    identity = run.storage.read(GROUP_FILE).decode()
    remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(identity)))
    run.storage.remove_file(GROUP_FILE)
    return True
