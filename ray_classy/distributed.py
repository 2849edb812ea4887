"""Rank, world size and the few collectives in use; all are identities in a single process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from typing_extensions import TypeIs


def is_initialized() -> bool:
    """Whether a process group exists."""
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes in the group; 1 without one."""
    return dist.get_world_size() if is_initialized() else 1


def get_rank() -> int:
    """This process's rank, in [0, world size); 0 without a group."""
    return dist.get_rank() if is_initialized() else 0


def is_fsdp_module(module: Any) -> TypeIs[FSDPModule]:
    """Whether a module's parameters are sharded by torch's `fully_shard`."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # a second to import; without it no module is sharded
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)


def get_primary_rank() -> int:
    """The rank that reports and writes."""
    return 0


def is_primary() -> bool:
    """Whether this process is the one that reports and writes."""
    return get_rank() == get_primary_rank()


def is_distributed_training_run() -> bool:
    """Whether more than one process trains."""
    return get_world_size() > 1


def barrier() -> None:
    """Waits for every process (bounded by the group's time-out)."""
    if is_distributed_training_run():
        dist.barrier()


def _collective_device() -> torch.device:
    if is_initialized() and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def all_reduce_op(tensor: torch.Tensor, op: Any) -> torch.Tensor:
    """Reduces `tensor` in place over all processes, wherever it lies, and returns it."""
    if not is_distributed_training_run():
        return tensor
    device = _collective_device()
    if tensor.device.type == device.type:
        dist.all_reduce(tensor, op)
        return tensor
    moved = tensor.to(device)
    dist.all_reduce(moved, op)
    tensor.copy_(moved)
    return tensor


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sums `tensor` over all processes, in place."""
    return all_reduce_op(tensor, dist.ReduceOp.SUM)


def all_reduce_mean(tensor: torch.Tensor) -> torch.Tensor:
    """Averages `tensor` over all processes, in place for floating-point tensors."""
    return (
        all_reduce_sum(tensor).div_(get_world_size())
        if tensor.is_floating_point()
        else (all_reduce_sum(tensor) / get_world_size())
    )


def all_reduce_min(tensor: torch.Tensor) -> torch.Tensor:
    """The element-wise minimum over all processes, in place."""
    return all_reduce_op(tensor, dist.ReduceOp.MIN)


def all_reduce_max(tensor: torch.Tensor) -> torch.Tensor:
    """The element-wise maximum over all processes, in place."""
    return all_reduce_op(tensor, dist.ReduceOp.MAX)


def broadcast(tensor: torch.Tensor, src: int = 0) -> torch.Tensor:
    """Copies `tensor` from rank `src` to all, in place."""
    if not is_distributed_training_run():
        return tensor
    device = _collective_device()
    moved = tensor.to(device)
    dist.broadcast(moved, src)
    if moved is not tensor:
        tensor.copy_(moved)
    return tensor


def broadcast_object(value: Any, src: int = 0) -> Any:
    """Rank `src`'s `value`, on every rank (pickled on the way)."""
    if not is_distributed_training_run():
        return value
    box = [value]
    dist.broadcast_object_list(box, src)
    return box[0]


def gather_objects(value: Any) -> list[Any]:
    """The values of all ranks in rank order, on every rank."""
    if not is_distributed_training_run():
        return [value]
    box: list[Any] = [None] * get_world_size()
    dist.all_gather_object(box, value)
    return box


def gather_tensors_from_all(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of all ranks (all of one shape; a scalar counts as shape (1,)), in rank order."""
    if tensor.ndim == 0:
        tensor = tensor.reshape(1)
    if not is_distributed_training_run():
        return [tensor]
    moved = tensor.to(_collective_device()).contiguous()
    gathered = [torch.zeros_like(moved) for _ in range(get_world_size())]
    dist.all_gather(gathered, moved)
    return [part.to(tensor.device) for part in gathered]


def gather_from_all(tensor: torch.Tensor) -> torch.Tensor:
    """The tensors of all ranks concatenated along the first dimension."""
    return torch.cat(gather_tensors_from_all(tensor), 0)


def local_rank() -> int:
    """The rank among this node's processes, as torchrun says it; 0 otherwise."""
    return int(os.environ.get("LOCAL_RANK", 0))
