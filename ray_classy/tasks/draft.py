"""Tasks that are built to be looked at, not trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.dataset import ClassyDataset, build_dataset


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
