"""How rows reach the ranks of a run on Ray."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "RayDataset":  # imports Ray, which the rest of the package can do without
        from ray_classy.ingest.ray_dataset import RayDataset

        return RayDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
