"""What differs between the supported releases of torch, each difference in one place.

An entry asks torch for a feature, never for its version. `docs/versions.md` says what is lost on which release.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
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


class SGD(torch.optim.SGD):
    """`torch.optim.SGD`, which also with `fused` takes parameters whose first gradient comes after that of others.

    Torch's fused update fails for them. Here their momentum is 0 before it, so that with `dampening` their first
    momentum is the gradient times 1 - `dampening`.
    """

    def _init_group(self, group: dict[str, Any], params: list[Any], grads: list[Any], buffers: list[Any]) -> Any:
        has_sparse_gradients = super()._init_group(group, params, grads, buffers)
        if group["fused"]:
            missing = [index for index, buffer in enumerate(buffers) if buffer is None]
            if len(missing) < len(buffers):
                for index in missing:
                    buffers[index] = torch.zeros_like(grads[index])
        return has_sparse_gradients


def step_of(optimizer: Any) -> Callable[..., Any]:
    """Returns the `step` method of an optimizer, without torch's wrapper for hooks and profilers if none is active.

    Torch wraps the `step` of every optimizer class; with a small model the wrapper takes 3 % of the time of a step. A
    method that someone has replaced is returned as it is.
    """
    step: Any = getattr(type(optimizer), "step", None)
    code = getattr(step, "__code__", None)
    if code is None or code is not _wrapper_code() or "step" in vars(optimizer) or _may_be_observed(optimizer):
        return optimizer.step
    return functools.partial(step.__wrapped__, optimizer)


@functools.cache
def _wrapper_code() -> Any:
    """Returns the code object of torch's wrapper, by which it is recognized; None on a torch without the wrapper."""
    wrap = getattr(torch.optim.Optimizer, "profile_hook_step", None)
    return getattr(wrap(lambda: None), "__code__", None) if wrap is not None else None


def _may_be_observed(optimizer: Any) -> bool:
    """Whether step hooks are registered or a profiler is active; True on a torch that does not say."""
    try:
        module: Any = sys.modules[torch.optim.Optimizer.__module__]
        hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        hooks = hooks or module._global_optimizer_pre_hooks or module._global_optimizer_post_hooks
        return bool(hooks) or torch.autograd._profiler_enabled()
    except AttributeError:
        return True


def compiled_graphs() -> int:
    """Returns how many graphs `torch.compile` has compiled in this process; 0 where torch does not say."""
    if not compiler_is_imported():
        return 0
    counters: Any = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
    return int(counters["stats"]["unique_graphs"]) if "stats" in counters else 0


def is_compiler_error(error: BaseException) -> bool:
    """Whether an error was raised by the compiler and not by the code that it compiles; torch has no public base."""
    return type(error).__module__.startswith(("torch._dynamo.", "torch._inductor."))
