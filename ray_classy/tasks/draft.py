"""Tasks that are built to be looked at, not trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray_classy.dataset import ClassyDataset, build_dataset
from ray_classy.tasks.classy_task import ClassyTask, build_checked_task

if TYPE_CHECKING:
    from ray_classy.tasks.dry_run import DryRun


@dataclass
class Draft:
    """How the parts of a task are built that is looked at and not trained.

    Attributes:
        device: of the model; "meta" gives shapes without weights, which take no memory.
        datasets: those that were built, by their configs; other drafts share them.
    """

    device: str | None = None
    datasets: dict[str, ClassyDataset] = field(default_factory=dict)

    def dataset(self, config: Mapping[str, Any]) -> ClassyDataset:
        """Builds a dataset, or returns the one that was built from an equal config."""
        key = json.dumps(config, sort_keys=True, default=repr)
        if key not in self.datasets:
            self.datasets[key] = build_dataset(config)
        return self.datasets[key]


def draft_task(
    config: Mapping[str, Any], world_size: int, on_gpu: bool | None, datasets: dict[str, ClassyDataset] | None = None
) -> tuple[ClassyTask, dict[str, DryRun]]:
    """Builds a task from a checked config and tries its parts, without memory for its weights where that is possible.

    Args:
        config: a task's config.
        world_size, on_gpu: as for `ClassyTask.preflight`.
        datasets: of earlier drafts.

    Returns:
        The task, and what `preflight` returned.

    Raises:
        RayClassyError: a part cannot be built, or the parts do not fit together.
    """
    datasets = {} if datasets is None else datasets
    try:
        task = build_checked_task(config, Draft("meta", datasets))
        return task, task.preflight(world_size, on_gpu)
    except Exception:
        # Some models exist with real weights only. If the mistake is the user's, this raises it again.
        task = build_checked_task(config, Draft(None, datasets))
        return task, task.preflight(world_size, on_gpu)
