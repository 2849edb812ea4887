"""The names that torchvision gives to the weights of networks that are here under other names.

Those of ResNet, ResNeXt and DenseNet are timm's as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

_STEM = {"conv1": "initial_block.0", "bn1": "initial_block.1"}
_IN_STAGE = re.compile(r"layer(\d+)\.(\d+)\.(.+)")

_OF_REGNET = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^stem\.(\d)\.", r"stem.stem.\1."),
        (r"\.proj\.0\.", r".proj."),
        (r"\.proj\.1\.", r".bn."),
        (r"\.f\.c\.0\.", r".f.c."),
        (r"\.f\.c\.1\.", r".f.final_bn."),
    )
]

_OF_DENSENET = {"conv0": "initial_block.0", "norm0": "initial_block.1", "norm5": "features.trunk_output.norm-final"}
_IN_DENSE_LAYER = re.compile(r"features\.denseblock(\d+)\.denselayer(\d+)\.(conv|norm)\.?(\d)\.(.+)")
_IN_TRANSITION = re.compile(r"features\.transition(\d+)\.(conv|norm)\.(.+)")

_OF_EFFICIENTNET = {"0.0": "conv_stem", "0.1": "bn0", "8.0": "conv_head", "8.1": "bn1"}
_IN_MBCONV = re.compile(r"features\.(\d+)\.(\d+)\.block\.(\d)\.([^.]+)\.(.+)")
_MBCONV = [
    {"0": "expand_conv", "1": "bn0"},
    {"0": "depthwise_conv", "1": "bn1"},
    {"fc1": "se_reduce", "fc2": "se_expand"},
    {"0": "project_conv", "1": "bn2"},
]


def renamed(weights: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Returns weights under the names that they have here; those of no name of torchvision's keep theirs.

    Args:
        weights: name to tensor.
        own: the names of the trunk that they are for.
    """
    branched = {name.partition(".branch.")[0] for name in own if ".branch." in name}
    return {_renamed(name, branched): value for name, value in weights.items()}


def _renamed(name: str, branched: Collection[str]) -> str:
    layer, _, rest = name.partition(".")
    if layer in _STEM:
        return f"{_STEM[layer]}.{rest}"
    match = _IN_STAGE.fullmatch(name)
    if match is None or match[1] == "0":
        return name
    block = f"blocks.{int(match[1]) - 1}.block{int(match[1]) - 1}-{match[2]}"
    inside = "branch." if block in branched and not match[3].startswith("downsample.") else ""
    return f"{block}.{inside}{match[3]}"


def of_regnet(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weights of a RegNet under the names that they have here; other names stay."""
    renamed = {}
    for name, value in weights.items():
        for pattern, own in _OF_REGNET:
            name = pattern.sub(own, name)
        renamed[name] = value
    return renamed


def of_densenet(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weights of a DenseNet under the names that they have here; other names stay."""
    return {_of_densenet(name): value for name, value in weights.items()}


def _of_densenet(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "classifier":
        return ".".join(["fc", *parts[1:]])
    if parts[0] == "features" and len(parts) == 3 and parts[1] in _OF_DENSENET:
        return f"{_OF_DENSENET[parts[1]]}.{parts[2]}"
    match = _IN_DENSE_LAYER.fullmatch(name)
    if match is not None:
        block = int(match[1]) - 1
        return f"features.block_{block}.block{block}-{int(match[2]) - 1}.{match[3]}-{match[4]}.{match[5]}"
    match = _IN_TRANSITION.fullmatch(name)
    return name if match is None else f"features.transition-{int(match[1]) - 1}.pool-{match[2]}.{match[3]}"


def of_efficientnet(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weights of an EfficientNet under the names that they have here; other names stay."""
    return {_of_efficientnet(name): value for name, value in weights.items()}


def _of_efficientnet(name: str) -> str:
    if name.startswith("classifier.1."):
        return f"fc.{name.removeprefix('classifier.1.')}"
    match = _IN_MBCONV.fullmatch(name)
    if match is not None:
        stage, block, part, layer, rest = match.groups()
        part = int(part) + (stage == "1")  # the blocks of the first stage do not expand
        own = _MBCONV[part].get(layer) if part < len(_MBCONV) else None
        return name if own is None else f"blocks.block{int(stage) - 1}-{block}.{own}.{rest}"
    for place, own in _OF_EFFICIENTNET.items():
        if name.startswith(f"features.{place}."):
            return f"{own}.{name.removeprefix(f'features.{place}.')}"
    return name
