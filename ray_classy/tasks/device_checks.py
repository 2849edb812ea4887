"""Refuses options for the device that do not go together, before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_classy.errors import ComponentError
from ray_classy.tasks.recomputation import RecomputedBlocks
from ray_classy.tasks.replicas import BatchNormSyncMode
from ray_classy.tasks.sharding import strategy_of
from ray_classy.tasks.user_calls import is_ours

if TYPE_CHECKING:
    from ray_classy.tasks.planned_task import PlannedTask


def check(task: PlannedTask, world_size: int) -> None:
    """Refuses options that do not go together.

    Raises:
        ComponentError: the message names the keys.
    """
    several, sharded = world_size > 1, strategy_of(task) == "fsdp" and world_size > 1
    synchronized = task.distributed_options.batch_norm_sync_mode is not BatchNormSyncMode.DISABLED
    own_step = overrides(task, ("train_step",))
    for wrong, message in (
        (
            task.cudnn_benchmark and task.deterministic,
            "cudnn_benchmark picks the fastest algorithms by measuring, which are other ones each time, and "
            "deterministic promises the same bits: leave one of them out",
        ),
        (
            task.compilation is not None and task.gradient_checkpointing,
            "compile decides itself which activations are computed again: leave out gradient_checkpointing or compile",
        ),
        (
            sharded and task.compilation is not None,
            "compile cannot compile a model whose parameters are sharded by distributed.strategy 'fsdp': leave one out",
        ),
        (
            sharded and task.memory_format != "contiguous",
            f"memory_format {task.memory_format!r} does not last where distributed.strategy 'fsdp' shards the "
            f"parameters: leave one out",
        ),
        (
            task.batch is not None and several and (sharded or synchronized),
            "batch: ranks may compute a batch in another number of parts, and each forward pass waits for the other "
            "ranks with distributed.strategy 'fsdp' or batch_norm_sync_mode: leave one out",
        ),
        (
            task.batch is not None and own_step,
            f"batch: {type(task).__name__} has its own train_step, which decides itself what it computes at once: "
            f"leave batch out",
        ),
        (
            task.gradient_checkpointing and own_step,
            f"gradient_checkpointing: {type(task).__name__} has its own train_step: leave gradient_checkpointing out, "
            f"and use torch.utils.checkpoint there",
        ),
    ):
        if wrong:
            raise ComponentError(message)
    if task.gradient_checkpointing and not task.test_only:
        RecomputedBlocks(task.base_model)


def overrides(task: PlannedTask, names: tuple[str, ...]) -> bool:
    """Returns whether the class of a task has its own method for one of these names, in place of this package's."""
    return any(not is_ours(getattr(type(task), name)) for name in names)
