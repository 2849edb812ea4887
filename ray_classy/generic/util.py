"""Small helpers under the names that Classy Vision gave them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ray_classy.errors import ComponentError
from ray_classy.generic.checkpoint_util import (
    CHECKPOINT_FILE as CHECKPOINT_FILE,
)
from ray_classy.generic.checkpoint_util import (
    get_checkpoint_dict as get_checkpoint_dict,
)
from ray_classy.generic.checkpoint_util import (
    load_and_broadcast_checkpoint as load_and_broadcast_checkpoint,
)
from ray_classy.generic.checkpoint_util import (
    load_checkpoint as load_checkpoint,
)
from ray_classy.generic.checkpoint_util import (
    master_params as master_params,
)
from ray_classy.generic.checkpoint_util import (
    save_checkpoint as save_checkpoint,
)
from ray_classy.generic.checkpoint_util import (
    update_classy_model as update_classy_model,
)
from ray_classy.generic.checkpoint_util import (
    update_classy_state as update_classy_state,
)

CPU_DEVICE = torch.device("cpu")
GPU_DEVICE = torch.device("cuda")


def is_pos_int(number: Any) -> bool:
    """Whether `number` is exactly an int (no bool, no numpy integer) and at least 0."""
    return type(number) is int and number >= 0


def is_pos_float(number: Any) -> bool:
    """Whether `number` is exactly a float and at least 0."""
    return type(number) is float and number >= 0


def is_pos_int_list(numbers: Any) -> bool:
    """Whether `numbers` is a list in which `is_pos_int` holds for each."""
    return isinstance(numbers, list) and all(is_pos_int(number) for number in numbers)


def is_pos_int_tuple(numbers: Any) -> bool:
    """Whether `numbers` is a tuple in which `is_pos_int` holds for each."""
    return isinstance(numbers, tuple) and all(is_pos_int(number) for number in numbers)


def is_not_none(sample: Any) -> bool:
    """Whether `sample` is not None."""
    return sample is not None


def is_long_tensor(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds 64-bit integers, on any device."""
    return isinstance(tensor, torch.Tensor) and tensor.dtype == torch.int64


def is_float_tensor(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds 32-bit floats, on any device."""
    return isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32


def is_double_tensor(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds 64-bit floats, on any device."""
    return isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64


def is_leaf(module: nn.Module) -> bool:
    """Whether the module has no sub-modules."""
    return next(module.children(), None) is None


def is_on_gpu(model: nn.Module) -> bool:
    """Whether the model has parameters, all of them on a GPU."""
    devices = {parameter.device.type for parameter in model.parameters()}
    return devices == {"cuda"}


def map_tensors(value: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """Applies a function to every tensor in nested containers and returns new containers with the results.

    Dicts, lists, tuples and named tuples are rebuilt at any depth (a dict of another class keeps its class and
    attributes, any other mapping becomes a dict). Everything else is returned as it is.

    Args:
        value: a tensor, a container of such values, or anything else.
        function: called with each tensor; its result takes the tensor's place.
    """
    if isinstance(value, torch.Tensor):
        return function(value)
    if type(value) is dict:  # which is found out sooner than that it is a mapping
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, Mapping):
        mapped = {key: map_tensors(item, function) for key, item in value.items()}
        if not isinstance(value, dict):
            return mapped
        copied = copy.copy(value)  # a state dict is an OrderedDict with `_metadata`
        copied.update(mapped)
        return copied
    if isinstance(value, list):
        return [map_tensors(item, function) for item in value]
    if isinstance(value, tuple) and not isinstance(value, torch.Size):
        items = [map_tensors(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def recursive_copy_to_device(value: Any, non_blocking: bool, device: torch.device | str) -> Any:
    """Copies every tensor in nested containers to a device; see `map_tensors`.

    Args:
        value: a tensor, a container of such values at any depth, or anything else.
        non_blocking: let copies from page-locked memory overlap with the host's work.
        device: the device to copy to.
    """

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.device == device else tensor.to(device, non_blocking=non_blocking)

    return map_tensors(value, copied)


def recursive_copy_to_gpu(value: Any, non_blocking: bool = True) -> Any:
    """`recursive_copy_to_device` to the current GPU."""
    return recursive_copy_to_device(value, non_blocking, torch.device("cuda", torch.cuda.current_device()))


@contextlib.contextmanager
def numpy_seed(seed: int | None, *more: int) -> Iterator[None]:
    """Seeds numpy's global generator for the block and restores its state afterwards.

    Args:
        seed: the seed; None does nothing.
        *more: further integers that the seed depends on (an epoch, an index).
    """
    if seed is None:
        yield
        return
    import numpy as np

    if more:
        seed = int.from_bytes(hashlib.sha256(repr((seed, *more)).encode()).digest()[:4], "big")
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextlib.contextmanager
def torch_seed(seed: int | None) -> Iterator[None]:
    """Seeds torch's generators, the CPU's and the current GPU's, for the block and restores their states afterwards.

    Args:
        seed: the seed; None does nothing.
    """
    if seed is None:
        yield
        return
    # Without CUDA in use, seeding its generator would only take effect later, outside the block.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def flatten_dict(value_dict: Mapping[str, Any], prefix: str = "", sep: str = "_") -> dict[str, Any]:
    """Nested mappings as one dict, the keys on the way to a value joined by `sep` (and `prefix` before them)."""
    flat: dict[str, Any] = {}
    for key, value in value_dict.items():
        path = f"{prefix}{sep}{key}" if prefix else key
        flat.update(flatten_dict(value, path, sep) if isinstance(value, Mapping) else {path: value})
    return flat


def load_json(json_path: str) -> Any:
    """What a JSON file holds."""
    with open(json_path, encoding="utf-8") as file:
        return json.load(file)


def convert_to_one_hot(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Class indices of shape (N, 1) as int64 rows of shape (N, `classes`) with a single 1.

    Raises:
        ComponentError: the shape is another one.
    """
    if targets.ndim != 2 or targets.shape[1] != 1:
        raise ComponentError(f"convert_to_one_hot takes indices of shape (N, 1), not {tuple(targets.shape)}")
    if targets.device.type == "cpu" and len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ComponentError(
            f"a class index must be in [0, {classes}), not {int(targets.min())} to {int(targets.max())}"
        )
    return F.one_hot(targets.squeeze(1).long(), classes)


def maybe_convert_to_one_hot(target: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
    """The target in the shape of the output.

    Args:
        target: class indices of shape (N,) or (N, 1), which become one-hot, or already values of shape (N, C).
        model_output: scores of shape (N, C).

    Raises:
        ComponentError: the shapes do not belong together.
    """
    if target.ndim == 1 or (target.ndim == 2 and target.shape[1] == 1):
        target = convert_to_one_hot(target.reshape(-1, 1), model_output.shape[1])
    if target.shape != model_output.shape:
        raise ComponentError(
            f"target of shape {tuple(target.shape)} does not go with model output of shape {tuple(model_output.shape)}"
        )
    return target


def get_batchsize_per_replica(x: Any) -> int:
    """The length of the first tensor found in lists, tuples and mappings at any depth.

    Raises:
        ComponentError: a container on the way is empty.
    """
    while isinstance(x, (list, tuple, Mapping)):
        if not x:
            raise ComponentError("cannot tell the batch size of an empty container")
        x = next(iter(x.values())) if isinstance(x, Mapping) else x[0]
    return len(x)


def get_model_dummy_input(
    model: nn.Module, input_shape: Any, input_key: Any = None, batchsize: int = 1, non_blocking: bool = False
) -> Any:
    """Zeros that a model can be called with, on its device and in the dtype of its parameters.

    Args:
        model: the model.
        input_shape: shape of one input, without the batch dimension; a dict of shapes makes a dict of inputs, and a
            list of shapes needs a list of keys.
        input_key: wrap the input in a dict under this key, or each of several under its own; None leaves it bare.
        batchsize: rows of the input.
        non_blocking: has no effect: the zeros are made where the model is.

    Raises:
        ComponentError: there are more keys than shapes, or fewer.
    """
    if isinstance(input_shape, Mapping):
        return {name: get_model_dummy_input(model, shape, input_key, batchsize) for name, shape in input_shape.items()}
    if isinstance(input_key, list):
        if len(input_key) != len(input_shape) or not all(isinstance(shape, list | tuple) for shape in input_shape):
            raise ComponentError(f"input_shape {input_shape} must have one shape for each key in {input_key}")
        return {
            key: get_model_dummy_input(model, shape, None, batchsize)
            for key, shape in zip(input_key, input_shape, strict=True)
        }
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    zeros = torch.zeros(batchsize, *input_shape, device=parameter.device, dtype=parameter.dtype)
    return zeros if input_key is None else {input_key: zeros}


def split_batchnorm_params(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters of batch-norm layers (1d, 2d, 3d and synchronised), and all other trainable ones.

    A parameter that several modules share is listed once.
    """
    batch_norm: list[nn.Parameter] = []
    other: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                (batch_norm if isinstance(module, _BatchNorm) else other).append(parameter)
    return batch_norm, other


class Timer:
    """A context manager that measures the seconds spent in its block.

    Attributes:
        start: the clock's reading at the beginning of the block.
        elapsed_time: seconds from there to its end; 0 before.
    """

    def __init__(self) -> None:
        self.start = 0.0
        self.elapsed_time = 0.0

    def __enter__(self) -> Timer:
        self.start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.elapsed_time = time.perf_counter() - self.start


@contextlib.contextmanager
def _mode(model: nn.Module, train: bool) -> Iterator[nn.Module]:
    modes = [(module, module.training) for module in model.modules()]
    model.train(train)
    try:
        yield model
    finally:
        # Set one by one: train() would reach into the sub-modules, whose modes may differ.
        for module, training in modes:
            module.training = training


def train_model(model: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:
    """Train mode for the block; afterwards every sub-module has its own mode again."""
    return _mode(model, True)


def eval_model(model: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:
    """Evaluation mode for the block; afterwards every sub-module has its own mode again."""
    return _mode(model, False)


def copy_model_to_gpu(model: nn.Module, loss: nn.Module | None = None) -> Any:
    """Moves a model to the current GPU, and a loss if one is given; returns the model, or both."""
    model = model.cuda()
    return model if loss is None else (model, loss.cuda())


def log_class_usage(component_type: str, klass: type) -> None:
    """Tells torch's usage log, which is off by default, that a class of a kind ("Task", "Model") is used."""
    torch._C._log_api_usage_once(f"ray_classy.{component_type}.{getattr(klass, '__name__', klass)}")


def get_torch_version() -> list[int]:
    """Torch's major and minor version."""
    return [int(part) for part in torch.__version__.split(".")[:2]]
