"""Rank, world size and the few collectives in use; all are identities in a single process."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from ray_classy.errors import ResourceError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_AVAILABLE = dist.is_available()  # in this build of torch

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from typing_extensions import TypeIs


class timed_exchange:  # entered in each step: a class is faster than a generator with `contextmanager`
    """Notes on an error in the block, or in the function that it decorates, how many seconds had passed in it.

    By that a time-out of an exchange between the ranks is recognized, for which gloo raises a plain RuntimeError.
    """

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RuntimeError) and not hasattr(error, "seconds_in_exchange"):
            error.seconds_in_exchange = time.monotonic() - self._began  # type: ignore[attr-defined]

    def __call__(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        @functools.wraps(function)
        def timed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            with timed_exchange():
                return function(*args, **kwargs)

        return timed


def exchange_failed(error: BaseException) -> Literal["yes", "maybe", "no"]:
    """Whether an error was raised by an exchange between the ranks, by its type and the place where it was raised.

    Torch raises types of its own for NCCL, the network and the store, and a plain RuntimeError for gloo. "maybe" is a
    plain RuntimeError of a backward pass of several ranks, in which DistributedDataParallel exchanges gradients: no
    Python code runs there that would tell it from an error of the operation itself.
    """
    if not dist.is_available() or not isinstance(error, RuntimeError):
        return "no"
    if isinstance(error, dist.DistError):
        return "yes"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    if module.startswith("torch.distributed.") or module == "torch.nn.parallel.distributed":
        return "yes"
    in_backward = type(error) is RuntimeError and module.startswith("torch.autograd.")
    return "maybe" if in_backward and is_distributed_training_run() else "no"


def is_initialized() -> bool:
    """Whether a process group exists."""
    return _AVAILABLE and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes in the group; 1 without one."""
    return dist.get_world_size() if is_initialized() else 1


def get_rank() -> int:
    """This process's rank, in [0, world size); 0 without a group."""
    return dist.get_rank() if is_initialized() else 0


def check_single_process(trainer: str) -> None:
    """Refuses to train in one of several processes of a launcher, each of which would make the same run.

    Args:
        trainer: the name of the trainer that was called.

    Raises:
        ResourceError: this process is one of several.
    """
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"):
        processes = os.environ.get(name, "")
        if processes.isdigit() and int(processes) > 1:
            raise ResourceError(
                f"{trainer} trains in one run, and this is one of {processes} processes ({name}), as torchrun starts "
                f"them: each would make the same run. Use ray_classy.trainer.DistributedTrainer in a script under "
                f"torchrun, or start the command once, without torchrun (--num-workers N for several workers)"
            )


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


@timed_exchange()
def barrier() -> None:
    """Waits for every process (bounded by the group's time-out)."""
    if is_distributed_training_run():
        dist.barrier()


def _collective_device() -> torch.device:
    if is_initialized() and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@timed_exchange()
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


@timed_exchange()
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


@timed_exchange()
def broadcast_object(value: Any, src: int = 0) -> Any:
    """Rank `src`'s `value`, on every rank (pickled on the way)."""
    if not is_distributed_training_run():
        return value
    box = [value]
    dist.broadcast_object_list(box, src)
    return box[0]


@timed_exchange()
def gather_objects(value: Any) -> list[Any]:
    """The values of all ranks in rank order, on every rank."""
    if not is_distributed_training_run():
        return [value]
    box: list[Any] = [None] * get_world_size()
    dist.all_gather_object(box, value)
    return box


@timed_exchange()
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
