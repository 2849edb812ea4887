"""The length of the training, which schedules with a warmup need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_classy.dataset import ClassyDataset
from ray_classy.errors import TaskError
from ray_classy.optim.param_scheduler.warmup import TrainingLength

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask


def set_schedule_length(task: ClassificationTask) -> None:
    """Gives the length of the training to the schedules that need it.

    Raises:
        TaskError: the length of the train dataset is not known.
    """
    waiting = [one for one in task.optimizer_schedulers.values() if getattr(one, "needs_length", False)]
    if waiting:
        length = training_length(task)
        for scheduler in waiting:
            scheduler.set_length(length)


def training_length(task: ClassificationTask) -> TrainingLength:
    """Returns the number of steps of each train phase, on as many ranks as there are, and of updates.

    Raises:
        TaskError: the length of the train dataset is not known.
    """
    dataset, parts = task.datasets.get("train"), task.train_phases_per_epoch or 1
    if not isinstance(dataset, ClassyDataset) or not hasattr(dataset.dataset, "__len__"):
        raise TaskError("a warmup needs a train dataset whose number of rows is known: use a composite schedule")
    steps = [dataset.plan("train", part).num_steps for part in range(parts)]
    phases = task.get_total_training_phases()
    return TrainingLength(tuple(steps[phase % parts] for phase in range(phases)), task.optimizer_period, parts)
