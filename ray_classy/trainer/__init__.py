"""Trainers: the same loop in one process, under torchrun, and on a Ray cluster."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.trainer.classy_trainer import ClassyTrainer
    from ray_classy.trainer.distributed_trainer import DistributedTrainer
    from ray_classy.trainer.local_trainer import LocalTrainer
    from ray_classy.trainer.ray_trainer import RayTrainer
    from ray_classy.trainer.result import Result

__all__ = ["ClassyTrainer", "DistributedTrainer", "LocalTrainer", "RayTrainer", "Result"]

__getattr__ = lazy_exports(__name__)
