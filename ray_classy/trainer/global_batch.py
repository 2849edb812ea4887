"""Another number of ranks, and still updates of as many rows: by accumulated gradients, where that divides."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ray_classy.distributed import get_world_size, is_primary
from ray_classy.tasks import ClassificationTask

_log = logging.getLogger(__name__)


def keep_update_rows(task: Any, before: Mapping[str, int] | None, ranks: int | None) -> dict[str, int] | None:
    """Sets a task, before it is prepared, to updates of as many rows as it had on another number of ranks.

    Args:
        task: a simulated batch size of its own is left, but for an elastic run on which it does not divide.
        before: what this gave to the run that wrote the checkpoint which the task goes on from, if there is one.
        ranks: that the run is meant for, if it is elastic.

    Returns:
        `replica`, the rows of a step on one rank, and `update`, those that an update is meant to be of.
    """
    if not isinstance(task, ClassificationTask) or task.test_only:
        return None
    replica = task.datasets["train"].get_batchsize_per_replica()
    wanted = task.simulated_global_batchsize or replica * (ranks or get_world_size())
    if task.simulated_global_batchsize is None and before is not None and before["replica"] == replica:
        wanted = before["update"]
    if task.simulated_global_batchsize is None or ranks is not None:
        _accumulate(task, wanted, replica * get_world_size())
    return {"replica": replica, "update": wanted}


def _accumulate(task: ClassificationTask, wanted: int, step: int) -> None:
    """Sets the steps that make up an update, and says what that means.

    Args:
        task: the period that is wanted of it is set.
        wanted: rows of an update.
        step: rows of a step over all ranks.
    """
    period = max(1, round(wanted / step))
    task.wanted_period = period
    if not is_primary():
        return
    if period * step != wanted:
        _log.warning(
            "on %d workers an update is of %d rows, not of %d, which does not divide; the learning rate is not changed",
            get_world_size(),
            period * step,
            wanted,
        )
    elif period > 1:
        _log.info(
            "on %d workers, the gradients of %d steps make up an update of %d rows", get_world_size(), period, wanted
        )
