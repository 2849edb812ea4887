"""A hook that computes the statistics of batch-norm layers precisely after each train phase."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ray_classy.dataset.loader import PhaseIterator
from ray_classy.distributed import all_reduce_sum
from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.generic.util import recursive_copy_to_device
from ray_classy.hooks.classy_hook import ClassyHook, register_hook

Batch = tuple[Any, int]
"""The input of the model, and how many of its rows count."""


@register_hook("precise_bn")
class PreciseBatchNormHook(ClassyHook):
    """Replaces the moving averages of batch-norm layers by statistics of the trained weights, after each train phase.

    The mean and the variance of a layer's inputs are those over all rows that are read, computed from the statistics
    of each batch: E[m] and E[v + m^2] - E[m]^2 for batches of mean m and variance v (Wu and Johnson, "Rethinking
    'batch' in BatchNorm", 2021, section 3). All ranks together read the first rows of the phase and share the result.
    Layers in evaluation mode, such as those of a frozen trunk, keep their statistics. The rows of the phase, its
    meters and its losses are not touched, and a resumed run computes what an uninterrupted one does.

    Args:
        num_samples: rows to read, of all ranks together, at least 1; rounded up to whole steps.
        cache_samples: use the inputs of the phase's first steps, which stay in the device's memory, instead of reading
            the rows again. They are as the model saw them, after mixup. In a phase that was resumed in its middle the
            rows are read again. Rows that cannot be read twice, such as those of a stream, are always cached.

    Raises:
        ComponentError: `num_samples` is not a positive integer.
    """

    on_start = on_end = ClassyHook._noop

    def __init__(self, num_samples: int, cache_samples: bool = False) -> None:
        super().__init__()
        if type(num_samples) is not int:
            raise ArgumentTypeError(f"num_samples must be an integer of at least 1, not {num_samples!r}")
        if num_samples < 1:
            raise ComponentError(f"num_samples must be an integer of at least 1, not {num_samples!r}")
        self.num_samples = num_samples
        self.cache_samples = cache_samples
        self._cache: list[Batch] = []
        self._caching, self._rows = False, 0

    def on_phase_start(self, task: Any) -> None:
        """Decides whether the phase's first inputs are cached."""
        self._cache, self._rows = [], 0
        wanted = self.cache_samples or not _can_read_again(task)
        self._caching = task.train and wanted and task.steps_in_phase == 0

    def on_step(self, task: Any) -> None:
        """Caches the inputs of a step."""
        if not self._caching or not task.train or self._rows >= self.num_samples:
            return
        share = getattr(task.data_iterator, "share", None)
        sample = task.last_batch.sample["input"]
        self._cache.append((sample, 1 if share is None else share.rows))
        self._rows += task.get_global_batchsize() if share is None else share.global_rows

    def on_phase_end(self, task: Any) -> None:
        """Computes the statistics after a train phase; every rank takes part."""
        if not task.train:
            return
        batches, self._cache = self._cache, []
        layers = [layer for layer in task.base_model.modules() if _has_moving_averages(layer)]
        if not layers:
            return
        precision = getattr(task, "precision", None)
        if precision is not None and not precision.works_on(task.device):
            precision = None
        autocast = (
            torch.autocast(task.device.type, getattr(torch, precision.dtype)) if precision else contextlib.nullcontext()
        )
        with _measured(layers) as sums, torch.no_grad(), autocast:
            for sample, rows in batches if self._caching else self._read(task):
                sums.counts = rows > 0
                task.base_model(sample)
        sums.store()

    def _read(self, task: Any) -> Iterator[Batch]:
        """Yields the inputs of this rank's first steps of the phase."""
        iterator = iter(task.build_dataloader_from_dataset(task.datasets["train"], start=0))
        for sample in iterator:
            yield recursive_copy_to_device(sample["input"], True, task.device), iterator.share.rows
            if iterator.consumed >= self.num_samples:
                return


def _can_read_again(task: Any) -> bool:
    """Returns whether the first rows of the current phase can be read once more, without another effect."""
    dataset = task.datasets.get("train")
    stable = getattr(dataset, "order_is_stable", True) and not hasattr(dataset, "set_classy_state")
    return isinstance(task.data_iterator, PhaseIterator) and stable


def _has_moving_averages(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats


class _Sums:
    """Sums of the inputs of batch-norm layers, by channel.

    Attributes:
        counts: whether the rows of the current batch count; padding rows do not.
    """

    def __init__(self, layers: list[_BatchNorm]) -> None:
        self.counts = True
        self._layers = layers
        self._sums = {  # on the layers' device, where those of layers that the model does not call stay
            layer: torch.zeros(3, layer.num_features, dtype=torch.float64, device=layer.running_mean.device)  # type: ignore[union-attr]
            for layer in layers
        }

    def add(self, layer: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        """Adds an input of shape (N, C, ...): the forward pre-hook of a layer."""
        values = arguments[0].detach().float()
        variance, mean = torch.var_mean(values, [0, *range(2, values.ndim)], correction=0)
        number = values.numel() // values.shape[1] if self.counts else 0
        mean, variance = mean.double(), variance.double()
        added = torch.stack([mean, variance + mean**2, torch.ones_like(mean)]) * number
        self._sums[layer] = self._sums[layer].to(added.device) + added  # type: ignore[index]

    def store(self) -> None:
        """Gives the layers the statistics over all ranks; without a row they keep theirs."""
        packed = torch.cat([self._sums[layer].flatten() for layer in self._layers])
        all_reduce_sum(packed)
        for layer in self._layers:
            part, packed = packed[: 3 * layer.num_features], packed[3 * layer.num_features :]
            total, squares, number = part.reshape(3, -1)
            if not number[0]:
                continue
            mean = total / number
            variance = (squares / number - mean**2).clamp(min=0) * number / (number - 1).clamp(min=1)
            layer.running_mean.copy_(mean)  # type: ignore[union-attr]
            layer.running_var.copy_(variance)  # type: ignore[union-attr]


@contextlib.contextmanager
def _measured(layers: list[Any]) -> Iterator[_Sums]:
    """Measures the inputs of layers in the block, in which their own moving averages rest."""
    sums = _Sums(layers)
    handles = [layer.register_forward_pre_hook(sums.add) for layer in layers]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield sums
    finally:
        for layer, handle in zip(layers, handles, strict=True):
            layer.track_running_stats = True
            handle.remove()
