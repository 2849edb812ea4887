"""The order in memory of images and of the weights of convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By number of dimensions: images (N, C, H, W), clips (N, C, T, H, W) and the weights of their convolutions."""


def has_formats(model: nn.Module) -> bool:
    """Whether a model has weights that `channels_last` reorders: those of convolutions over images or clips."""
    return any(parameter.ndim in _CHANNELS_LAST for parameter in model.parameters())


def reorder(model: nn.Module, memory_format: str) -> None:
    """Reorders the weights of convolutions in place; the parameters stay the same objects, with the same values."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim in _CHANNELS_LAST:
                parameter.data = parameter.data.contiguous(memory_format=_format(parameter, memory_format))


def reordered(inputs: Any, memory_format: str) -> Any:
    """Returns a batch of images or clips in a memory format; another value as it is."""
    if memory_format == "contiguous" or not isinstance(inputs, torch.Tensor) or inputs.ndim not in _CHANNELS_LAST:
        return inputs
    return inputs.contiguous(memory_format=_CHANNELS_LAST[inputs.ndim])


def _format(tensor: torch.Tensor, memory_format: str) -> torch.memory_format:
    return _CHANNELS_LAST[tensor.ndim] if memory_format == "channels_last" else torch.contiguous_format
