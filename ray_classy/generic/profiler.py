"""The size of a model: its parameters, and the arithmetic of one input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_params(model: nn.Module) -> int:
    """The number of values in the model's parameters, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def compute_flops(model: nn.Module, input_shape: tuple[int, ...] = (3, 224, 224), input_key: str | None = None) -> int:
    """The number of multiply-adds that the model needs for one input in evaluation mode.

    A multiply-add counts as **one**, as papers on image models count. Convolutions, matrix products and attention are
    counted, whichever module calls them; sums, normalisation, activations and pooling are not.

    Args:
        model: a model on any device; on the meta device nothing is computed and no memory is taken. It is called
            once, with zeros, and keeps its mode and its statistics. (Of a DistributedDataParallel, pass `.module`.)
        input_shape: shape of one input, without the batch dimension.
        input_key: wrap the input in a dict under this key.
    """
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    zeros = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    counter = FlopCounterMode(display=False)
    with _evaluating(model), torch.no_grad(), counter:
        model(zeros if input_key is None else {input_key: zeros})
    return counter.get_total_flops() // 2  # torch counts the multiplication and the addition


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
