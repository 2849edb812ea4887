"""The names that torchvision and timm give to the weights of a vision transformer."""

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
_IN_TIMM = re.compile(r"blocks\.(\d+)\.(norm1|attn\.qkv|attn\.proj|norm2|mlp\.fc1|mlp\.fc2)\.(weight|bias)")
_BLOCK_OF_TIMM = {
    "norm1": "ln_1.",
    "attn.qkv": "self_attention.in_proj_",
    "attn.proj": "self_attention.out_proj.",
    "norm2": "ln_2.",
    "mlp.fc1": "mlp.linear_1.",
    "mlp.fc2": "mlp.linear_2.",
}
_TIMM = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj.weight": "conv_proj.weight",
    "patch_embed.proj.bias": "conv_proj.bias",
    "norm.weight": "encoder.ln.weight",
    "norm.bias": "encoder.ln.bias",
    "head.weight": "_heads.0.layers.head.weight",
    "head.bias": "_heads.0.layers.head.bias",
}
_POSITIONS = "encoder.pos_embedding"


def renamed(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weights of torchvision or timm under the names that they have here; other names stay.

    Args:
        weights: name to tensor. Position embeddings there are (1, S, hidden_dim), those here (S, 1, hidden_dim).
    """
    found = {_renamed(name): value for name, value in weights.items()}
    positions = found.get(_POSITIONS)
    if isinstance(positions, torch.Tensor) and positions.ndim == 3 and positions.shape[0] == 1:
        found[_POSITIONS] = positions.transpose(0, 1)
    return found


def _renamed(name: str) -> str:
    match = _IN_TIMM.fullmatch(name)
    if match is not None:
        return f"encoder.layers.layer_{match[1]}.{_BLOCK_OF_TIMM[match[2]]}{match[3]}"
    if name in _TIMM:
        return _TIMM[name]
    for pattern, ours in _TORCHVISION:
        name = pattern.sub(ours, name)
    return name
