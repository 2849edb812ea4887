"""What of a model's training the ranks hold together: nothing, the optimizer's state, or all but the activations.

    ddp    every rank has all parameters, gradients and optimizer state
    zero   the optimizer's state is dealt to the ranks
    fsdp   parameters and gradients are dealt as well

With zero the model is trained in DistributedDataParallel. With fsdp the base model is, within train phases, a copy that
`torch.distributed.fsdp.fully_shard` deals to the ranks. When the phase is over it is the whole model again: in a test
phase the ranks make different numbers of steps, so that a step must not wait for the others.
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
from ray_classy.optim.sharded_state import ShardedOptimizerState, exchange_parameters, keep_shards, sharded_entries
from ray_classy.tasks.replicas import share_buffers

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from ray_classy.tasks.classification_task import ClassificationTask

SMALLEST_BLOCK = 2**16
"""Parameters of a block from which on it is gathered by itself; smaller ones are gathered with what is round them."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def strategy_of(task: ClassificationTask) -> str:
    """The strategy that the task's options ask for, in whichever spelling."""
    chosen = task.distributed_options.strategy
    if chosen == "ddp" and (task.use_sharded_ddp or getattr(task.optimizer, "shards_state", False)):
        return "zero"
    return chosen


def begin(task: ClassificationTask) -> None:
    """Makes the task's new optimizer keep its part of the state, if the strategy says so and several processes train.

    Raises:
        ComponentError: the strategy cannot train the model, the loss or with the optimizer.
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
        ComponentError: parameters cannot be dealt to the ranks, or a hook needs all of them.
    """
    if strategy_of(task) != "fsdp":
        return
    scalars = [name for name, parameter in task.base_model.named_parameters() if parameter.ndim == 0]
    if scalars or has_learned_parameters(task.base_loss):
        what = f"the model's scalar parameters ({', '.join(scalars[:5])})" if scalars else "parameters of the loss"
        raise ComponentError(f"distributed.strategy 'fsdp' cannot deal out {what}: use the strategy 'ddp' or 'zero'")
    for hook in task.hooks:
        if hook.changes_weights:
            raise ComponentError(
                f"the hook {hook.name()} needs all parameters in train steps, and distributed.strategy 'fsdp' deals "
                f"them to the ranks: use the strategy 'ddp' or 'zero'"
            )


def shard(task: ClassificationTask) -> None:
    """Deals the base model to the ranks for a train phase, with fsdp; every rank must call it."""
    if task._sharded is not None and any(parameter.requires_grad for parameter in task.base_model.parameters()):
        task.base_model = task.distributed_model = task._sharded.deal(task.base_model, task.optimizer.optimizer)


def make_whole(task: ClassificationTask) -> None:
    """Undoes `shard`, if it was done: every rank has the whole base model. Every rank must call it."""
    if task._sharded is not None and task.base_model is task._sharded.dealt:
        task.base_model, task.distributed_model = task._sharded.gather(), None


class ShardedModel:
    """A model that is whole at times and dealt to the ranks at times; the optimizer has the dealt one's parameters.

    Args:
        mesh: of all ranks.

    Attributes:
        whole: the model; without its parameters' memory while it is dealt.
        dealt: the copy that is dealt; the optimizer has its parameters until there is another one.
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self.whole: nn.Module | None = None
        self.dealt: nn.Module | None = None

    def deal(self, whole: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        """The model, as it is on the first rank, dealt to all; its memory and its place in the optimizer are taken."""
        from torch.distributed.fsdp import fully_shard

        former = whole if self.dealt is None else self.dealt
        data = [parameter.detach().contiguous() for parameter in whole.parameters()]
        for tensor in data:
            broadcast(tensor)
        share_buffers(whole)
        for parameter in whole.parameters():
            parameter.data = parameter.new_empty(0)
        dealt = copy.deepcopy(whole)
        for parameter in dealt.parameters():
            parameter.data = data.pop(0)
        for block in list(blocks(dealt)):
            fully_shard(block, mesh=self.mesh)
        fully_shard(dealt, mesh=self.mesh)
        new: dict[Any, torch.Tensor] = dict(zip(former.parameters(), dealt.parameters(), strict=True))
        exchange_parameters(optimizer, new, partial(sharded_entries, mesh=self.mesh))
        self.whole, self.dealt = whole, dealt
        return dealt

    def gather(self) -> nn.Module:
        """The whole model, with the parameters and buffers of the dealt one."""
        assert self.whole is not None and self.dealt is not None
        for module in self.dealt.modules():
            if is_fsdp_module(module):
                module.reshard()  # what a forward pass without a backward pass left
        for parameter, shards in zip(self.whole.parameters(), self.dealt.parameters(), strict=True):
            tensor: Any = shards.detach()
            parameter.data = tensor.full_tensor()
            parameter.requires_grad_(shards.requires_grad)
        for module, trained in zip(self.whole.modules(), self.dealt.modules(), strict=True):
            module._buffers.update(trained._buffers)
        return self.whole


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The submodules whose parameters are gathered together: the residual blocks, layers, ... that a model consists of.

    Containers and modules with more than half of all parameters are looked into; modules of torch are not, for they
    may read the parameters of their parts without calling them.
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
