"""The names that torchvision, and timm after it, give to the weights of ResNet and ResNeXt.

The blocks here are torchvision's own; only the stem, the stages and the classification layer have other names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

_STEM = {"conv1": "initial_block.0", "bn1": "initial_block.1"}
_IN_STAGE = re.compile(r"layer(\d+)\.(\d+)\.(.+)")


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
