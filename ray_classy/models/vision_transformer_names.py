"""The names that torchvision gives to the weights of a vision transformer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

_TORCHVISION = (
    (re.compile(r"encoder\.layers\.encoder_layer_(\d+)\."), r"encoder.layers.layer_\1."),
    (re.compile(r"(encoder\.layers\.layer_\d+\.mlp)\.0\."), r"\1.linear_1."),
    (re.compile(r"(encoder\.layers\.layer_\d+\.mlp)\.3\."), r"\1.linear_2."),
    (re.compile(r"heads\.(head|pre_logits)\."), r"_heads.0.layers.\1."),
)
_POSITIONS = "encoder.pos_embedding"


def renamed(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns torchvision's weights under the names that they have here; other names stay.

    Args:
        weights: name to tensor. Position embeddings of torchvision are (1, S, hidden_dim), those here (S, 1,
            hidden_dim).
    """
    found = {_renamed(name): value for name, value in weights.items()}
    positions = found.get(_POSITIONS)
    if isinstance(positions, torch.Tensor) and positions.ndim == 3 and positions.shape[0] == 1:
        found[_POSITIONS] = positions.transpose(0, 1)
    return found


def _renamed(name: str) -> str:
    for pattern, ours in _TORCHVISION:
        name = pattern.sub(ours, name)
    return name
