"""Tasks that are built to be looked at, not trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.dataset import ClassyDataset
from ray_classy.tasks.data_sections import build_phase_dataset


@dataclass
class Draft:
    """Settings for building the parts of a task that is only looked at, not trained.

    Attributes:
        device: of the model; "meta" gives shapes without weights, which take no memory.
        datasets: those that were built, by their phase types and configs; other drafts share them.
    """

    device: str | None = None
    datasets: dict[str, ClassyDataset] = field(default_factory=dict)

    def dataset(self, config: Mapping[str, Any], phase_type: str, train: ClassyDataset | None = None) -> ClassyDataset:
        """Builds a dataset as `build_phase_dataset`, or returns the one that was built from an equal config."""
        key = json.dumps([phase_type, config.get("dataset")], sort_keys=True, default=repr)
        if key not in self.datasets:
            self.datasets[key] = build_phase_dataset(config, phase_type, train)
        return self.datasets[key]
