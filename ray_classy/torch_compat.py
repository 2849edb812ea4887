"""What differs between the supported releases of torch, each difference in one place.

An entry asks torch for a feature, never for its version. `docs/versions.md` says what is lost on which release.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ray_classy.deferred_compiler import compiler_is_imported
from ray_classy.distributed import broadcast


@functools.cache
def ddp_has_forward_sync_buffers() -> bool:
    """Whether DistributedDataParallel takes `forward_sync_buffers`, as torch 2.13 and newer do."""
    return "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters


def wrap_in_ddp(model: nn.Module, forward_sync_buffers: bool, **options: Any) -> DistributedDataParallel:
    """Wraps a model in DistributedDataParallel, with the parameters and buffers of rank 0 on all ranks.

    Older releases of torch have `broadcast_buffers` instead, which also decides about the buffers at the start: where
    it is False they are copied here. Nothing is lost.

    Args:
        model: a model on its device, with parameters that require a gradient.
        forward_sync_buffers: also copy the buffers from rank 0 before each forward pass.
        options: further arguments of DistributedDataParallel.
    """
    if ddp_has_forward_sync_buffers():
        return DistributedDataParallel(model, forward_sync_buffers=forward_sync_buffers, **options)
    if not forward_sync_buffers:
        for buffer in model.buffers():
            broadcast(buffer)
    return DistributedDataParallel(model, broadcast_buffers=forward_sync_buffers, **options)


@contextlib.contextmanager
def checksums_written() -> Iterator[None]:
    """Files that `torch.save` writes in the block have checksums, also where a user has switched them off.

    Releases before 2.6 always write them.
    """
    options = getattr(torch.serialization, "set_crc32_options", None)
    if options is None:
        yield
        return
    before = torch.serialization.get_crc32_options()
    options(True)
    try:
        yield
    finally:
        options(before)


def scale_gradients(parameters: Iterable[nn.Parameter], factor: torch.Tensor) -> None:
    """Multiplies all gradients by a scalar on their device, also those that are sharded.

    Torch's own way to do that in few kernels is private; without it each gradient takes one.
    """
    gradients: dict[torch.dtype, list[torch.Tensor]] = {}
    for parameter in parameters:
        gradient: Any = parameter.grad
        if gradient is not None:
            local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
            gradients.setdefault(local.dtype, []).append(local)
    for dtype, tensors in gradients.items():
        scale = factor.to(dtype)
        if hasattr(torch, "_foreach_mul_") and scale.device.type == tensors[0].device.type != "cpu":
            torch._foreach_mul_(tensors, scale)
        else:
            for tensor in tensors:
                tensor.mul_(scale)


def compiled_graphs() -> int:
    """Returns how many graphs `torch.compile` has compiled in this process; 0 where torch does not say."""
    if not compiler_is_imported():
        return 0
    counters: Any = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
    return int(counters["stats"]["unique_graphs"]) if "stats" in counters else 0


def is_compiler_error(error: BaseException) -> bool:
    """Whether an error was raised by the compiler and not by the code that it compiles; torch has no public base."""
    return type(error).__module__.startswith(("torch._dynamo.", "torch._inductor."))
