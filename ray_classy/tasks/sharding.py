"""Shards the training state of a model across ranks.

    ddp    every rank has all parameters, gradients and optimizer state
    zero   the optimizer's state is sharded
    fsdp   parameters and gradients are sharded as well

With zero the model is trained in DistributedDataParallel. With fsdp the base model is, within train phases, a copy that
`torch.distributed.fsdp.fully_shard` shards. After the phase it is the whole model again: in a test phase ranks make
different numbers of steps, so that a step must not wait for other ranks.

Optimizer state is sharded by `optim.sharded_state` and not by torch's own helpers, because `ZeroRedundancyOptimizer`
exchanges pickles and refuses mixed dtypes, and those of `torch.distributed.checkpoint` step the optimizer.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ray_classy.distributed import broadcast, get_world_size, is_distributed_training_run, is_fsdp_module
from ray_classy.errors import ComponentError
from ray_classy.losses.classy_loss import has_learned_parameters
from ray_classy.optim.sharded_state import (
    ShardedOptimizerState,
    check_is_torchs,
    exchange_parameters,
    fused_takes_shards,
    keep_shards,
    sharded_entries,
)
from ray_classy.tasks.replicas import share_buffers

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from ray_classy.optim.classy_optimizer import ClassyOptimizer
    from ray_classy.tasks.classification_task import ClassificationTask
    from ray_classy.tasks.task_parts import TaskParts

SMALLEST_BLOCK = 2**16
"""Least number of parameters of a block that is gathered by itself; smaller ones are gathered with their parent."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def strategy_of(task: TaskParts) -> str:
    """Returns the strategy that the task's options, or its optimizer, ask for."""
    chosen = task.distributed_options.strategy
    if chosen == "ddp" and (task.use_sharded_ddp or getattr(task.optimizer, "shards_state", False)):
        return "zero"
    return chosen


def set_up(task: ClassificationTask) -> None:
    """Makes the task's new optimizer shard its state, if the strategy does and several processes train.

    Raises:
        ComponentError: the strategy cannot train the model or the loss, or not with the optimizer.
    """
    task._sharded = None
    strategy = strategy_of(task)
    if strategy == "ddp" or not is_distributed_training_run():
        return
    if strategy == "zero":
        ShardedOptimizerState(task.optimizer.optimizer)
        return
    check(task)
    from torch.distributed.device_mesh import init_device_mesh

    task._sharded = ShardedModel(init_device_mesh(task.device.type, (get_world_size(),)))
    keep_shards(task.optimizer.optimizer, task._sharded.mesh)


def check(task: ClassificationTask) -> None:
    """Refuses what the task's strategy cannot do on several processes.

    Raises:
        ComponentError: parameters cannot be sharded, or a hook needs all of them.
    """
    if strategy_of(task) != "fsdp":
        return
    scalars = [name for name, parameter in task.base_model.named_parameters() if parameter.ndim == 0]
    if scalars or has_learned_parameters(task.base_loss):
        what = f"the model's scalar parameters ({', '.join(scalars[:5])})" if scalars else "parameters of the loss"
        raise ComponentError(f"distributed.strategy 'fsdp' cannot shard {what}: use the strategy 'ddp' or 'zero'")
    if task.optimizer.needs_whole_parameters:
        raise ComponentError(
            f"the optimizer {task.optimizer.type_name} needs whole parameters, and distributed.strategy 'fsdp' shards "
            f"them: use the strategy 'ddp' or 'zero'"
        )
    for hook in task.hooks:
        if hook.changes_weights:
            raise ComponentError(
                f"the hook {hook.name()} needs all parameters in train steps, and distributed.strategy 'fsdp' shards "
                f"them: use the strategy 'ddp' or 'zero'"
            )


def check_optimizer(task: TaskParts, optimizer: ClassyOptimizer) -> None:
    """Refuses an optimizer with which the task's strategy cannot train on several processes.

    Args:
        task: the strategy's.
        optimizer: after its `prepare`.

    Raises:
        ComponentError: it is not torch's, or its fused updates do not take sharded parameters.
    """
    strategy = strategy_of(task)
    if strategy == "ddp":
        return
    check_is_torchs(optimizer.optimizer, strategy)
    if strategy == "fsdp" and any(one.fused and not fused_takes_shards(one.config_keys()) for one in optimizer.parts()):
        raise ComponentError(
            "distributed.strategy 'fsdp' shards parameters, and of torch's fused updates only those of Adam take them: "
            "leave fused out, or use the strategy 'ddp' or 'zero'"
        )


def shard(task: ClassificationTask) -> None:
    """Shards the base model for a train phase, with fsdp; every rank must call it."""
    if task._sharded is not None and any(parameter.requires_grad for parameter in task.base_model.parameters()):
        task.base_model = task.distributed_model = task._sharded.shard(task.base_model, task.optimizer.optimizer)


def unshard(task: ClassificationTask) -> None:
    """Undoes `shard`, so that every rank has the whole base model; every rank must call it."""
    if task._sharded is not None and task.base_model is task._sharded.sharded:
        task.base_model, task.distributed_model = task._sharded.gather(), None


def whole_model(task: TaskParts) -> Any:
    """Returns the base model, also while a sharded copy is in its place; then its parameters have no memory."""
    sharded: ShardedModel | None = getattr(task, "_sharded", None)
    return sharded.whole if sharded is not None and task.base_model is sharded.sharded else task.base_model


class ShardedModel:
    """A model that is sharded in train phases and whole in between; the optimizer has the sharded parameters.

    Args:
        mesh: device mesh of all ranks.

    Attributes:
        whole: the model; while it is sharded, its parameters have no memory.
        sharded: the sharded copy; the optimizer has its parameters until there is another copy.
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self.whole: nn.Module | None = None
        self.sharded: nn.Module | None = None

    def shard(self, whole: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        """Shards the model of rank 0 across ranks; the copy takes over its memory and its place in the optimizer."""
        from torch.distributed.fsdp import fully_shard

        former = whole if self.sharded is None else self.sharded
        data = [parameter.detach().contiguous() for parameter in whole.parameters()]
        for tensor in data:
            broadcast(tensor)
        share_buffers(whole)
        for parameter in whole.parameters():
            parameter.data = parameter.new_empty(0)
        sharded = copy.deepcopy(whole)
        for parameter in sharded.parameters():
            parameter.data = data.pop(0)
        for block in list(blocks(sharded)):
            fully_shard(block, mesh=self.mesh)
        fully_shard(sharded, mesh=self.mesh)
        new: dict[Any, torch.Tensor] = dict(zip(former.parameters(), sharded.parameters(), strict=True))
        exchange_parameters(optimizer, new, partial(sharded_entries, mesh=self.mesh))
        self.whole, self.sharded = whole, sharded
        return sharded

    def gather(self) -> nn.Module:
        """Returns the whole model, with the parameters and buffers of the sharded copy."""
        assert self.whole is not None and self.sharded is not None
        for module in self.sharded.modules():
            if is_fsdp_module(module):
                module.reshard()  # parameters that a forward pass without a backward pass left gathered
        for parameter, shards in zip(self.whole.parameters(), self.sharded.parameters(), strict=True):
            tensor: Any = shards.detach()
            parameter.data = tensor.full_tensor()
            parameter.requires_grad_(shards.requires_grad)
        for module, trained in zip(self.whole.modules(), self.sharded.modules(), strict=True):
            module._buffers.update(trained._buffers)
        return self.whole


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the submodules whose parameters are gathered together: residual blocks, layers and the like.

    Containers, and modules with more than half of all parameters, are searched further. Modules of torch are not,
    because they may read the parameters of their submodules without calling them.
    """
    total, seen = _size(model), set()
    uses = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())

    def walk(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if child in seen or _size(child) < SMALLEST_BLOCK:
                continue
            seen.add(child)
            large = 2 * _size(child) > total and not type(child).__module__.startswith("torch.nn.")
            if type(child) in _CONTAINERS or (large and next(child.children(), None) is not None):
                yield from walk(child)
            elif all(uses[id(parameter)] == 1 for parameter in child.parameters()):  # none that others use as well
                yield child

    return walk(model)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
