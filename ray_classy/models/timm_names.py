"""The names that timm gives to the weights of networks that are here under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_STEM_OF_REGNET = {"stem.conv": "stem.stem.0", "stem.bn": "stem.stem.1"}
_IN_REGNET = re.compile(r"s(\d+)\.b(\d+)\.(\w+\.\w+)\.(.+)")
_REGNET = {
    "conv1.conv": "f.a.0",
    "conv1.bn": "f.a.1",
    "conv2.conv": "f.b.0",
    "conv2.bn": "f.b.1",
    "conv3.conv": "f.c",
    "conv3.bn": "f.final_bn",
    "se.fc1": "f.se.fc1",
    "se.fc2": "f.se.fc2",
    "downsample.conv": "proj",
    "downsample.bn": "bn",
}

_OF_EFFICIENTNET = {"bn1": "bn0", "bn2": "bn1", "classifier": "fc"}
_IN_EFFICIENTNET = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)")
_GATE = {"conv_dw": "depthwise_conv", "se.conv_reduce": "se_reduce", "se.conv_expand": "se_expand"}
_MBCONV = {**_GATE, "conv_pw": "expand_conv", "bn1": "bn0", "bn2": "bn1", "conv_pwl": "project_conv", "bn3": "bn2"}
_WITHOUT_EXPANSION = {**_GATE, "bn1": "bn1", "conv_pw": "project_conv", "bn2": "bn2"}


def of_regnet(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weights of a RegNet under the names that they have here; other names stay."""
    return {_of_regnet(name): value for name, value in weights.items()}


def _of_regnet(name: str) -> str:
    layer, _, rest = name.rpartition(".")
    if layer in _STEM_OF_REGNET:
        return f"{_STEM_OF_REGNET[layer]}.{rest}"
    match = _IN_REGNET.fullmatch(name)
    if match is None or match[3] not in _REGNET:
        return name
    return f"trunk_output.block{match[1]}.block{match[1]}-{int(match[2]) - 1}.{_REGNET[match[3]]}.{match[4]}"


def of_efficientnet(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weights of an EfficientNet under the names that they have here; those of other libraries stay."""
    if not any(_IN_EFFICIENTNET.fullmatch(name) for name in weights):
        return dict(weights)  # whose batch norms may have the same names, and another place
    return {_of_efficientnet(name): value for name, value in weights.items()}


def _of_efficientnet(name: str) -> str:
    layer, _, rest = name.rpartition(".")
    if layer in _OF_EFFICIENTNET:
        return f"{_OF_EFFICIENTNET[layer]}.{rest}"
    match = _IN_EFFICIENTNET.fullmatch(name)
    if match is None:
        return name
    own = (_MBCONV if int(match[1]) else _WITHOUT_EXPANSION).get(match[3])
    return name if own is None else f"blocks.block{match[1]}-{match[2]}.{own}.{match[4]}"
