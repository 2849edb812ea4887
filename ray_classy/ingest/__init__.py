"""Ray Data as the source of rows for the ranks of a run."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.ingest.ray_dataset import RayDataset

__all__ = ["RayDataset"]

__getattr__ = lazy_exports(__name__)
