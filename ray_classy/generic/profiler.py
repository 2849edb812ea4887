"""The size of a model: its parameters, the arithmetic and the activations of one input, and where its time goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ray_classy.errors import RayClassyError
from ray_classy.generic.util import eval_model, get_model_dummy_input

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ADAPTIVE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh),
    *(nn.Sigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax),
)
_ROWS_OF_TABLE = 50
_FREE = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class ClassyProfilerError(RayClassyError):
    """A model cannot be profiled."""


class ClassyProfilerNotImplementedError(ClassyProfilerError):
    """The arithmetic of a module is not known.

    Attributes:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(
            f"the multiply-adds of {type(module).__name__} are not known: give the class a method `flops(x)` that "
            f"returns those of one call ({module})"
        )
        self.module = module


def count_params(model: nn.Module) -> int:
    """The number of values in the model's parameters, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def compute_flops(model: nn.Module, input_shape: Any = (3, 224, 224), input_key: Any = None) -> int:
    """The number of multiply-adds that the model needs for one input in evaluation mode.

    A multiply-add counts as **one**, as papers on image models count. Counted are the calls of modules without
    submodules, each time one is called: convolutions without their bias; linear layers with it; two for each value of a
    normalisation, one for each value of an activation, and the size of the window for each output of a pooling;
    multi-head attention as a whole: its projections, its two products of matrices and its softmax. A module with a
    method `flops(x)` says itself what a call costs, with all that is in it. Functions that a `forward`
    calls without a module are not counted.

    Args:
        model: a model on any device; on the meta device nothing is computed and no memory is taken. It is called
            once, with zeros, and keeps its mode and its statistics. (Of a DistributedDataParallel, pass `.module`.)
        input_shape: shape of one input, without the batch dimension; see `get_model_dummy_input`.
        input_key: wrap the input in a dict under this key.

    Raises:
        ClassyProfilerNotImplementedError: a module is of another kind.
    """

    def count(module: Any, inputs: Any, output: Any) -> int:
        return int(module.flops(*inputs)) if _has(module, "flops") else _flops(module, inputs, output)

    return compute_complexity(model, count, input_shape, input_key, "flops")


def compute_activations(model: nn.Module, input_shape: Any = (3, 224, 224), input_key: Any = None) -> int:
    """The number of values that convolutions and linear layers of the model put out for one input in evaluation mode.

    Those of multi-head attention are counted with its attention weights and the values that they weight.

    A module with a method `activations(out, x)` says itself what a call puts out, with all that is in it.

    Args:
        model: as for `compute_flops`.
        input_shape: shape of one input, without the batch dimension.
        input_key: wrap the input in a dict under this key.
    """

    def count(module: Any, inputs: Any, output: Any) -> int:
        if _has(module, "activations"):
            return int(module.activations(output, *inputs))
        if isinstance(module, nn.MultiheadAttention):
            return _activations_of_attention(module, inputs)
        return output.numel() if isinstance(module, (*_CONVOLUTIONS, nn.Linear)) else 0

    return compute_complexity(model, count, input_shape, input_key, "activations")


def compute_complexity(
    model: nn.Module,
    compute_fn: Callable[[Any, Any, Any], int],
    input_shape: Any,
    input_key: Any = None,
    patch_attr: str | None = None,
    compute_unique: bool = False,
) -> int:
    """The sum of a number over the calls of modules without submodules, for one input in evaluation mode.

    Args:
        model: as for `compute_flops`.
        compute_fn: returns the number of one call for the module, its positional inputs and its output.
        input_shape: shape of one input, without the batch dimension.
        input_key: wrap the input in a dict under this key.
        patch_attr: name of a method; modules whose class has it are counted as a whole.
        compute_unique: count the first call of each module only.
    """
    total = 0
    seen: set[nn.Module] = set()

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        if not compute_unique or module not in seen:
            total += compute_fn(module, inputs, output)
        seen.add(module)

    with _watching(model, patch_attr, add), eval_model(model), torch.no_grad():
        model(get_model_dummy_input(model, input_shape, input_key))
    return total


def profile(
    model: nn.Module,
    batchsize_per_replica: int = 32,
    input_shape: Any = (3, 224, 224),
    use_nvprof: bool = False,
    input_key: Any = None,
) -> Any:
    """Profiles one forward pass in evaluation mode and returns the profiler.

    Args:
        model: on any device.
        batchsize_per_replica: rows of the input, which is zeros.
        input_shape: shape of one input, without the batch dimension.
        use_nvprof: mark the operations for NVIDIA's profilers instead, with `torch.autograd.profiler.emit_nvtx`.
        input_key: wrap the input in a dict under this key.
    """
    value = get_model_dummy_input(model, input_shape, input_key, batchsize_per_replica)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if next((parameter.is_cuda for parameter in model.parameters()), False):
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler: Any = torch.profiler.profile(activities=activities)
    if use_nvprof:
        profiler = torch.autograd.profiler.emit_nvtx()
    with eval_model(model), torch.no_grad():
        model(value)  # without the time that the first pass takes to choose algorithms
        with profiler as profiled:
            model(value)
    return profiled


def summarize_profiler_info(prof: Any) -> str:
    """Returns a table of what `profile` measured, the operations that took most time first."""
    return prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=_ROWS_OF_TABLE)


@contextmanager
def _watching(model: nn.Module, own: str | None, hook: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """Calls a hook after each call of the modules that are counted."""
    handles = [module.register_forward_hook(hook) for module in dict.fromkeys(_counted(model, own))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _counted(module: nn.Module, own: str | None) -> Iterator[nn.Module]:
    """The modules that are counted as a whole, and those without submodules outside them."""
    children = list(module.children())
    if _has(module, own) or isinstance(module, nn.MultiheadAttention) or not children:
        yield module
    else:
        for child in children:
            yield from _counted(child, own)


def _has(module: nn.Module, method: str | None) -> bool:
    return method is not None and callable(getattr(type(module), method, None))


def _flops(module: nn.Module, inputs: Any, output: Any) -> int:
    if isinstance(module, _FREE):
        return 0
    if isinstance(module, nn.MultiheadAttention):
        return _flops_of_attention(module, inputs)
    if not isinstance(output, torch.Tensor):
        raise ClassyProfilerNotImplementedError(module)
    x = inputs[0] if inputs and isinstance(inputs[0], torch.Tensor) else output
    spatial = math.prod(output.shape[2:])
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return module.weight.numel() * spatial * output.shape[0]
    if isinstance(module, nn.Linear):
        return output.numel() * (module.in_features + (module.bias is not None))
    if isinstance(module, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)):
        return 2 * x.numel()
    if isinstance(module, _POINTWISE):
        return x.numel()
    if isinstance(module, _POOLS):
        size = module.kernel_size
        return output.numel() * (math.prod(size) if isinstance(size, tuple) else int(size) ** (x.ndim - 2))
    if isinstance(module, _ADAPTIVE_POOLS):
        windows = (length + 1 - parts for length, parts in zip(x.shape[2:], output.shape[2:], strict=True))
        return output.numel() * math.prod(windows)
    if inputs and output is inputs[0]:  # it passes its input on, as an identity head does
        return 0
    raise ClassyProfilerNotImplementedError(module)


def _tokens(module: nn.MultiheadAttention, inputs: Any) -> tuple[int, int, int]:
    """The numbers of query tokens, of key tokens and of pairs of both in a batch."""
    if len(inputs) < 2:  # they were given by name
        raise ClassyProfilerNotImplementedError(module)
    query, key = inputs[:2]
    batch = 1 if query.ndim == 2 else query.shape[0 if module.batch_first else 1]
    queries, keys = query.numel() // module.embed_dim, key.numel() // module.kdim
    return queries, keys, queries * keys // batch


def _flops_of_attention(module: nn.MultiheadAttention, inputs: Any) -> int:
    width = module.embed_dim
    queries, keys, pairs = _tokens(module, inputs)
    projections = 2 * queries * width**2 + keys * (module.kdim + module.vdim) * width
    biases_and_scaling = (3 * queries + 4 * keys) * width
    return projections + biases_and_scaling + pairs * (2 * width + module.num_heads)


def _activations_of_attention(module: nn.MultiheadAttention, inputs: Any) -> int:
    queries, keys, pairs = _tokens(module, inputs)
    projections_and_weighted_values = (3 * queries + 2 * keys) * module.embed_dim
    return projections_and_weighted_values + pairs * module.num_heads
