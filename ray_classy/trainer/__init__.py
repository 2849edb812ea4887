"""Trainers: the same loop in one process, under torchrun, and on a Ray cluster."""

from typing import TYPE_CHECKING, Any

from ray_classy.trainer.classy_trainer import ClassyTrainer
from ray_classy.trainer.distributed_trainer import DistributedTrainer
from ray_classy.trainer.local_trainer import LocalTrainer
from ray_classy.trainer.result import Result

if TYPE_CHECKING:
    from ray_classy.trainer.ray_trainer import RayTrainer

__all__ = ["ClassyTrainer", "DistributedTrainer", "LocalTrainer", "RayTrainer", "Result"]


def __getattr__(name: str) -> Any:
    """Imports Ray only when its trainer is asked for."""
    if name == "RayTrainer":
        from ray_classy.trainer.ray_trainer import RayTrainer

        return RayTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
