"""The helpers of `ray_classy.distributed` under the names and with the arguments that Classy Vision gave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ray_classy import distributed
from ray_classy.distributed import (
    all_reduce_max,
    all_reduce_mean,
    all_reduce_min,
    all_reduce_sum,
    barrier,
    broadcast,
    gather_from_all,
    gather_tensors_from_all,
    get_primary_rank,
    get_rank,
    get_world_size,
    is_distributed_training_run,
    is_primary,
)

__all__ = [
    "all_reduce_max",
    "all_reduce_mean",
    "all_reduce_min",
    "all_reduce_op",
    "all_reduce_sum",
    "barrier",
    "broadcast",
    "broadcast_object",
    "convert_to_distributed_tensor",
    "convert_to_normal_tensor",
    "gather_from_all",
    "gather_tensors_from_all",
    "get_cuda_device_index",
    "get_primary_rank",
    "get_rank",
    "get_world_size",
    "init_distributed_data_parallel_model",
    "is_distributed_training_run",
    "is_primary",
    "set_cpu_device",
    "set_cuda_device_index",
]

_CPU_DEVICE_INDEX = -1
_cuda_device_index = 0


def all_reduce_op(
    tensor: torch.Tensor, op: Any, after_op_func: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> torch.Tensor:
    """Reduces a tensor in place over all processes; in a single process it stays as it is.

    Args:
        tensor: on any device.
        op: a `torch.distributed.ReduceOp`.
        after_op_func: called with the reduced tensor, on several processes; its result is returned.
    """
    reduced = distributed.all_reduce_op(tensor, op)
    return after_op_func(reduced) if after_op_func is not None and is_distributed_training_run() else reduced


def broadcast_object(obj: Any, src: int = 0, use_disk: bool = True) -> Any:
    """Returns rank `src`'s object on every rank; it is pickled on the way.

    Args:
        obj: the object, on rank `src`.
        src: a rank.
        use_disk: without effect: the object is sent over the network.
    """
    return distributed.broadcast_object(obj, src)


def convert_to_distributed_tensor(tensor: torch.Tensor) -> tuple[torch.Tensor, str]:
    """Returns a tensor on a device that the process group can send from, and where it was: "cpu" or "gpu"."""
    place = "gpu" if tensor.is_cuda else "cpu"
    on_gpu = torch.distributed.is_initialized() and torch.distributed.get_backend() == "nccl"
    return tensor.cuda() if on_gpu and place == "cpu" else tensor, place


def convert_to_normal_tensor(tensor: torch.Tensor, orig_device: str) -> torch.Tensor:
    """Undoes `convert_to_distributed_tensor`; `orig_device` is "cpu" or "gpu"."""
    return tensor.cpu() if tensor.is_cuda and orig_device == "cpu" else tensor


def set_cuda_device_index(idx: int) -> None:
    """Makes a GPU the current one of this process."""
    global _cuda_device_index
    torch.cuda.set_device(idx)
    _cuda_device_index = idx


def set_cpu_device() -> None:
    """Notes that this process uses no GPU."""
    global _cuda_device_index
    _cuda_device_index = _CPU_DEVICE_INDEX


def get_cuda_device_index() -> int:
    """Returns the number of the GPU that was set; 0 before, and -1 after `set_cpu_device`."""
    return _cuda_device_index


def init_distributed_data_parallel_model(
    model: nn.Module, broadcast_buffers: bool = False, find_unused_parameters: bool = True, bucket_cap_mb: int = 25
) -> nn.parallel.DistributedDataParallel:
    """Wraps a model, on its device, in DistributedDataParallel.

    Args:
        model: has parameters that require a gradient.
        broadcast_buffers: copy the buffers of rank 0 to all ranks before each forward pass.
        find_unused_parameters: look for parameters without a gradient after each forward pass.
        bucket_cap_mb: size of the buckets in which gradients are exchanged, in MiB.
    """
    from ray_classy.torch_compat import wrap_in_ddp

    options = {"find_unused_parameters": find_unused_parameters, "bucket_cap_mb": bucket_cap_mb}
    return wrap_in_ddp(model, broadcast_buffers, **options)
