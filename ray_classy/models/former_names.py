"""The names that Classy Vision gives to weights of blocks that are torchvision's here: residual ones and gates."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

_STEM = "initial_block._module."
_IN_BLOCK = re.compile(r"(blocks\.\d+\.[^.]+)\.(?:convolutional_block\.(\d+)|(bn)|se\.excitation\.(\d+))\.(.+)")
_LAYERS = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3"}
_GATE = {"0": "se.fc1", "2": "se.fc2"}
_IN_GATE = re.compile(r"\bse\.excitation\.([02])\b")


def renamed(trunk: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """A trunk's weights under the names that they have here; those of no former name keep theirs.

    Args:
        trunk: name to tensor, as Classy Vision or this package wrote it.
        own: the names in the trunk that they are for.
    """
    branched = {name.partition(".branch.")[0] for name in own if ".branch." in name}
    return {_renamed(name, trunk, branched): value for name, value in trunk.items()}


def _renamed(name: str, trunk: Mapping[str, Any], branched: Collection[str]) -> str:
    if name.startswith(_STEM):
        return f"initial_block.{name.removeprefix(_STEM)}"
    match = _IN_BLOCK.fullmatch(name)
    if match is None:
        return name
    block, layer, last, gate, rest = match.groups()
    if last:  # of the block's own batch norm, which follows its convolutions
        layer = "bn3" if f"{block}.convolutional_block.6.weight" in trunk else "bn2"
    else:
        layer = _LAYERS.get(layer, layer) if layer else _GATE.get(gate, gate)
    return f"{block}.branch.{layer}.{rest}" if block in branched else f"{block}.{layer}.{rest}"


_UNVERSIONED = re.compile(r"blocks\.(\d+)\.(\d+)\._module\.")


def of_unversioned(trunk: Mapping[str, Any]) -> dict[str, Any]:
    """A trunk's weights under the names of version 0.2; those of states without a version differ in their blocks.

    Args:
        trunk: name to tensor, as Classy Vision wrote it before its states had a version.
    """
    return {_UNVERSIONED.sub(r"blocks.\1.block\1-\2.", name): value for name, value in trunk.items()}


def of_gates(trunk: Mapping[str, Any]) -> dict[str, Any]:
    """A trunk's weights with those of squeeze and excitation under the names that they have here.

    Args:
        trunk: name to tensor, as Classy Vision or this package wrote it.
    """
    return {_IN_GATE.sub(lambda match: _GATE[match[1]], name): value for name, value in trunk.items()}


def in_trunk_of(state: Any, rename: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """A model's state with its trunk's weights renamed; what has another form is returned as it is.

    Args:
        state: as a model's `get_classy_state` returns it.
        rename: takes and returns a trunk's weights by name.
    """
    model = state.get("model") if isinstance(state, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(model.get("trunk"), Mapping):
        return state
    if not all(isinstance(name, str) for name in model["trunk"]):
        return state
    return {**state, "model": {**model, "trunk": rename(model["trunk"])}}
