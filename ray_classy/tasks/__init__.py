"""Tasks: everything that one training run needs."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.tasks.build import build_task, check_task
    from ray_classy.tasks.classification_task import ClassificationTask
    from ray_classy.tasks.classy_task import TASK_REGISTRY, ClassyTask, register_task
    from ray_classy.tasks.fine_tuning_task import FineTuningTask
    from ray_classy.tasks.loss_log import LastBatchInfo
    from ray_classy.tasks.replicas import BatchNormSyncMode, BroadcastBuffersMode

__all__ = [
    "TASK_REGISTRY",
    "BatchNormSyncMode",
    "BroadcastBuffersMode",
    "ClassificationTask",
    "ClassyTask",
    "FineTuningTask",
    "LastBatchInfo",
    "build_task",
    "check_task",
    "register_task",
]

__getattr__ = lazy_exports(__name__)
