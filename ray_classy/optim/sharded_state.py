"""Shards optimizer state across ranks, and gathers it for checkpoints.

`state_dict` returns, and `load_state_dict` accepts, the state of an unsharded optimizer, so that a checkpoint fits any
number of ranks and any strategy. Hooks of the torch optimizer convert it.

Torch's own means do not fit: `ZeroRedundancyOptimizer` exchanges pickles and refuses parameters of several dtypes, and
the state dict helpers of `torch.distributed.checkpoint` step the optimizer to create its state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.distributed import broadcast, gather_objects, get_rank, get_world_size, is_primary
from ray_classy.errors import ComponentError, TaskError
from ray_classy.generic.util import map_tensors

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor  # a second to import: only where tensors are sharded

_kept: ContextVar[bool] = ContextVar("keeps_gathered", default=True)


@contextlib.contextmanager
def gathering_for_primary() -> Iterator[None]:
    """Lets only the primary rank keep tensors that are gathered in the block; the others take part and drop them."""
    token = _kept.set(is_primary())
    try:
        yield
    finally:
        _kept.reset(token)


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Moves a gathered tensor to host memory, because the whole state may not fit on the device."""
    return tensor.cpu() if _kept.get() else torch.empty(0)


def full(value: Any) -> Any:
    """Gathers every sharded tensor in nested containers into host memory; every rank must call it."""
    from torch.distributed.tensor import DTensor

    @torch.no_grad()
    def gathered(tensor: torch.Tensor) -> torch.Tensor:
        return _on_host(tensor.full_tensor()) if isinstance(tensor, DTensor) else tensor

    return map_tensors(value, gathered)


def own_shard(tensor: torch.Tensor, mesh: DeviceMesh) -> DTensor:
    """Returns this rank's shard of a tensor that all ranks have, along the first dimension, as `fully_shard` does."""
    from torch.distributed.tensor import DTensor, Shard

    parts = tensor.detach().chunk(mesh.size())
    part = parts[mesh.get_local_rank()] if mesh.get_local_rank() < len(parts) else tensor.detach()[:0]
    local = part.to(mesh.device_type, copy=True, memory_format=torch.contiguous_format)
    stride = torch.empty(tensor.shape, device="meta").stride()
    return DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=tensor.shape, stride=stride)


def sharded_entries(state: Mapping[str, Any], parameter: torch.Tensor, mesh: DeviceMesh) -> dict[str, Any]:
    """Shards the tensors in a parameter's state that have the parameter's shape."""
    from torch.distributed.tensor import DTensor

    return {
        name: own_shard(value, mesh)
        if isinstance(value, torch.Tensor) and not isinstance(value, DTensor) and value.shape == parameter.shape
        else value
        for name, value in state.items()
    }


def keep_shards(optimizer: Any, mesh: DeviceMesh) -> None:
    """Lets an optimizer of sharded parameters load and return unsharded states.

    Of torch's fused kernels only those of Adam take sharded parameters: others are not used.
    """
    check_is_torchs(optimizer, "fsdp")
    for group in optimizer.param_groups:
        if group.get("fused") and not fused_takes_shards(group):
            group["fused"] = False

    def gather(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        _check_ranks_are_there(mesh.size())
        return {**state, "state": full(state["state"])}

    def load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        parameters = _by_number(optimizer, state)
        sharded = {number: sharded_entries(entry, parameters[number], mesh) for number, entry in state["state"].items()}
        return {**state, "state": sharded}

    optimizer.register_load_state_dict_pre_hook(load)
    optimizer.register_state_dict_post_hook(gather)


class ShardedOptimizerState:
    """Stage 1 of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054): one rank stores the state of each parameter.

    That rank updates the parameter and broadcasts it. Gradients must be equal on all ranks, as they are under
    DistributedDataParallel.

    Args:
        optimizer: a torch optimizer that has made no update yet.

    Raises:
        ComponentError: `optimizer` is not a torch optimizer.
    """

    def __init__(self, optimizer: Any) -> None:
        check_is_torchs(optimizer, "zero")
        self.rank, self.world_size = get_rank(), get_world_size()
        self._owners: dict[torch.Tensor, int] = {}
        self._loads = [0] * self.world_size
        self._others: list[tuple[torch.Tensor, torch.Tensor]] = []
        for parameter in list(optimizer.state):  # Adagrad creates its state at once
            if self.owners(optimizer)[parameter] != self.rank:
                del optimizer.state[parameter]
        optimizer.register_step_pre_hook(self._before_step)
        optimizer.register_step_post_hook(self._after_step)
        optimizer.register_state_dict_post_hook(self._gather)
        optimizer.register_load_state_dict_pre_hook(self._load)

    def owners(self, optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, int]:
        """Assigns each parameter's state to a rank: the largest first, to the least loaded rank."""
        new = [parameter for parameter in _parameters(optimizer) if parameter not in self._owners]
        for parameter in sorted(new, key=torch.Tensor.numel, reverse=True):
            owner = self._loads.index(min(self._loads))
            self._owners[parameter] = owner
            self._loads[owner] += parameter.numel()
        return self._owners

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if kwargs.get("closure") is not None or any(callable(argument) for argument in args):
            raise TaskError("the strategy 'zero' cannot update with a closure: use distributed.strategy 'ddp'")
        owners = self.owners(optimizer)
        others = (parameter for parameter in _parameters(optimizer) if owners[parameter] != self.rank)
        self._others = [(parameter, parameter.grad) for parameter in others if parameter.grad is not None]
        for parameter, _ in self._others:
            parameter.grad = None  # an optimizer skips parameters without a gradient

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, gradient in self._others:
            parameter.grad = gradient
        self._others = []
        owners = self.owners(optimizer)
        buckets: dict[tuple[int, torch.dtype, torch.device], list[torch.Tensor]] = {}
        for parameter in _parameters(optimizer):
            if parameter.grad is not None:
                key = (owners[parameter], parameter.dtype, parameter.device)
                buckets.setdefault(key, []).append(parameter.detach())
        for (owner, *_), parameters in buckets.items():
            together = broadcast(torch.cat([parameter.reshape(-1) for parameter in parameters]), owner)
            if owner != self.rank:
                parts = together.split([parameter.numel() for parameter in parameters])
                for parameter, part in zip(parameters, parts, strict=True):
                    parameter.copy_(part.view(parameter.shape))

    def _gather(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        _check_ranks_are_there(self.world_size)
        own = state["state"]
        outlines = gather_objects({number: _outline(entry) for number, entry in own.items()})
        devices = {number: parameter.device for number, parameter in _by_number(optimizer, state).items()}
        gathered: dict[Any, dict[str, Any]] = {}
        for owner, outline in enumerate(outlines):
            for number, entry in outline.items():
                gathered[number] = {}
                for name, value in entry.items():
                    if isinstance(value, _Shape):
                        mine = owner == self.rank
                        tensor = own[number][name].contiguous() if mine else value.empty(devices[number])
                        value = _on_host(broadcast(tensor, owner))
                    gathered[number][name] = value
        return {**state, "state": {number: gathered[number] for number in devices if number in gathered}}

    def _load(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        owners, parameters = self.owners(optimizer), _by_number(optimizer, state)
        own = {number: entry for number, entry in state["state"].items() if owners[parameters[number]] == self.rank}
        return {**state, "state": own}


class _Shape:
    """Shape, dtype and device of a tensor, which another rank needs to receive it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype, self.on_host = tensor.shape, tensor.dtype, tensor.device.type == "cpu"

    def empty(self, device: torch.device) -> torch.Tensor:
        return torch.empty(self.shape, dtype=self.dtype, device="cpu" if self.on_host else device)


def _outline(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _Shape(value) if isinstance(value, torch.Tensor) else value for name, value in entry.items()}


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _by_number(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[Any, torch.Tensor]:
    """Returns the optimizer's parameters by their numbers in a state dict."""
    numbers = (number for group in state["param_groups"] for number in group["params"])
    return dict(zip(numbers, _parameters(optimizer), strict=True))


def _check_ranks_are_there(world_size: int) -> None:
    if get_world_size() != world_size:
        raise TaskError(
            "the optimizer's state is sharded across ranks that no longer exist: read the run's checkpoint instead"
        )


def fused_takes_shards(options: Mapping[str, Any]) -> bool:
    """Whether torch's fused kernel of an optimizer with these options takes sharded parameters: Adam's does."""
    return "betas" in options


def check_is_torchs(optimizer: Any, strategy: str) -> None:
    """Refuses an optimizer without torch's hooks, on which the sharding of its state depends.

    Raises:
        ComponentError: `optimizer` is not a `torch.optim.Optimizer`.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ComponentError(
            f"distributed.strategy {strategy!r} shards the state of torch's optimizers, not of a "
            f"{type(optimizer).__name__}: leave use_larc out, or use the strategy 'ddp'"
        )


def exchange_parameters(
    optimizer: torch.optim.Optimizer,
    new: Mapping[Any, torch.Tensor],
    convert: Callable[[Mapping[str, Any], torch.Tensor], dict[str, Any]],
) -> None:
    """Replaces parameters of an optimizer; the new ones keep the groups, numbers and states of the old ones.

    Args:
        optimizer: the optimizer of the old parameters.
        new: the new parameter of each old one.
        convert: returns the new parameter's state, given the old state and the new parameter.
    """
    for group in optimizer.param_groups:
        group["params"] = [new.get(parameter, parameter) for parameter in group["params"]]
    for old in [parameter for parameter in optimizer.state if parameter in new]:
        optimizer.state[new[old]] = convert(optimizer.state.pop(old), new[old])
