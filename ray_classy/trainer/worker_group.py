"""What the workers of a run hold in the cluster, so that it can be freed if nobody else does.

In plain Ray, the placement group of a Ray Train run outlives its controller where there is no dashboard.
"""

from __future__ import annotations

import ray
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group

from ray_classy.trainer.run_folder import RunFolder

GROUP_FILE = "placement_group"


def note(run: RunFolder) -> None:
    """Writes down in the run's folder what holds the place of this worker and its siblings."""
    run.storage.write(GROUP_FILE, ray.util.get_current_placement_group().id.hex().encode())


def release_of(controller: str) -> None:
    """Frees what the workers of a controller that has died hold, which ends them.

    Args:
        controller: its actor id, in hexadecimal.
    """
    for data in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(data)
        if group.creator_actor_id.hex() == controller and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))


def release(run: RunFolder) -> bool:
    """Frees what the run's workers hold, which ends them; whether they held something."""
    if not run.storage.exists(GROUP_FILE):
        return False
    identity = run.storage.read(GROUP_FILE).decode()
    remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(identity)))
    run.storage.remove_file(GROUP_FILE)
    return True
