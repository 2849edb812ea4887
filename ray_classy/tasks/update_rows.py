"""Keeps the number of rows per optimizer update when the number of ranks changes, by accumulating gradients."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ray_classy.distributed import get_world_size, is_primary

if TYPE_CHECKING:
    from ray_classy.tasks.planned_task import PlannedTask

_log = logging.getLogger(__name__)


def keep_update_rows(task: PlannedTask, before: Mapping[str, int] | None, ranks: int | None) -> dict[str, int] | None:
    """Implements `ClassyTask.keep_update_rows`: sets `task.wanted_period`.

    A simulated batch size that the user chose is kept, except in an elastic run on a number of ranks that does not
    divide it.
    """
    if task.test_only:
        return None
    replica = task.datasets["train"].get_batchsize_per_replica()
    wanted = task.simulated_global_batchsize or replica * (ranks or get_world_size())
    if task.simulated_global_batchsize is None and before is not None and before["replica"] == replica:
        wanted = before["update"]
    if task.simulated_global_batchsize is None or ranks is not None:
        _accumulate(task, wanted, replica * get_world_size())
    return {"replica": replica, "update": wanted}


def _accumulate(task: PlannedTask, wanted: int, step: int) -> None:
    """Sets the number of train steps per update, and logs what that means.

    Args:
        task: gets the period.
        wanted: rows per update.
        step: rows per step over all ranks.
    """
    period = max(1, round(wanted / step))
    task.wanted_period = period
    if not is_primary():
        return
    if period * step != wanted:
        _log.warning(
            "on %d workers an update has %d rows, not %d, which does not divide; the learning rate is not changed",
            get_world_size(),
            period * step,
            wanted,
        )
    elif period > 1:
        _log.info(
            "on %d workers the gradients of %d steps are accumulated to updates of %d rows",
            get_world_size(),
            period,
            wanted,
        )
