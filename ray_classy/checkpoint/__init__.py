"""Checkpoint files: what is in them, and how they are written and read."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.checkpoint.cadence import CheckpointEvery
    from ray_classy.checkpoint.files import CHECKPOINT_FILE, load_checkpoint, save_checkpoint

__all__ = ["CHECKPOINT_FILE", "CheckpointEvery", "load_checkpoint", "save_checkpoint"]

__getattr__ = lazy_exports(__name__)
