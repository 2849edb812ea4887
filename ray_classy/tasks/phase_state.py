"""The state of an unfinished train phase, from which a run resumes on any number of ranks."""

from __future__ import annotations

import copy
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_classy.dataset.classy_dataset import ClassyDataset
from ray_classy.dataset.known_classes import class_indices
from ray_classy.dataset.loader import PhaseIterator
from ray_classy.dataset.sampling import ClassySampling
from ray_classy.distributed import gather_objects, is_primary
from ray_classy.errors import CheckpointError
from ray_classy.meters import sync_meters
from ray_classy.tasks.loss_log import LossLog
from ray_classy.tasks.task_state import set_meter_states

if TYPE_CHECKING:
    from ray_classy.dataset.plan import PhasePlan
    from ray_classy.tasks.classification_task import ClassificationTask


def can_pause(task: ClassificationTask, steps: int) -> bool:
    """Returns whether a run can resume from the current step.

    Args:
        task: in a train phase.
        steps: steps that this process has made in the phase.
    """
    iterator = task.data_iterator
    if not getattr(task.datasets["train"], "order_is_stable", True):
        return False
    return isinstance(iterator, PhaseIterator) and steps % task.optimizer_period == 0 and 0 < steps < len(iterator)


def phase_state(task: ClassificationTask) -> dict[str, Any]:
    """Returns the state of the current train phase, of all ranks together; every rank must call it.

    Returns:
        rows: number of rows that all ranks have consumed.
        order: what the order of rows depends on; see `_order`.
        losses, loss_rows: the loss of each step, and the number of rows it is the mean of.
        meters: the states of the meters.
        bad_rows: number of rows skipped because they could not be decoded.

    Raises:
        FloatingPointError: a loss is infinite or not a number, so that nothing should resume from this state. Every
            rank raises it.
    """
    iterator: PhaseIterator = task.data_iterator
    meters = [copy.deepcopy(meter) for meter in task.meters]
    sync_meters(meters)
    losses = task.losses.synchronized()
    losses.check_finite(f"train phase {task.train_phase_idx}")
    return {
        "rows": iterator.consumed,
        "order": _order(iterator.plan, task),
        "losses": list(losses),
        "loss_rows": losses.rows,
        "meters": [meter.get_classy_state() for meter in meters],
        "bad_rows": sum(gather_objects(iterator.bad_rows)),
    }


def _order(plan: PhasePlan, task: ClassificationTask) -> dict[str, Any]:
    """Returns what the order of a phase's rows depends on; of the rows, their number and labels."""
    dataset = task.datasets["train"]
    sampling = getattr(dataset, "sampling", None)
    return {
        "sampling": sampling.identity(dataset) if isinstance(sampling, ClassySampling) else None,
        "labels": _labels_checksum(dataset),
        "num_rows": plan.num_rows,
        "shuffle": plan.shuffle,
        "seed": plan.seed,
        "epoch": plan.epoch,
        "part": list(plan.part),
    }


def _labels_checksum(dataset: Any) -> Any:
    """Returns a checksum of the labels of all rows; None if they are not known without decoding."""
    labels = class_indices(dataset)
    if labels is not None:
        return zlib.crc32(labels.astype(np.int64).tobytes())
    columns = dataset.target_columns() if isinstance(dataset, ClassyDataset) else {}
    return {name: one.fingerprint() for name, one in columns.items()} or None


def restore(task: ClassificationTask, state: dict[str, Any]) -> None:
    """Restores the losses and meters of a phase that was started again at its first row that was not consumed.

    Raises:
        CheckpointError: the order of rows differs, so that the rows already consumed are not the first ones.
    """
    iterator = task.data_iterator
    now = _order(iterator.plan, task) if isinstance(iterator, PhaseIterator) else {}
    before = state["order"]
    changed = [
        f"{name} was {before.get(name)} and is {now.get(name)}"
        for name in dict.fromkeys([*before, *now])
        if now.get(name) != before.get(name)
    ]
    if changed:
        raise CheckpointError(
            f"the checkpoint was written after {state['rows']} rows of a train phase, and the order of rows "
            f"differs now: {', '.join(changed)}. Resume with the data and settings of that run, or start from a "
            f"checkpoint that was written at the end of a phase"
        )
    task.losses = LossLog(state["losses"], state["loss_rows"], len(state["losses"]))
    set_meter_states(task, state["meters"])
    if is_primary():
        iterator.bad_rows = state["bad_rows"]
