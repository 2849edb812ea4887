"""Divides the parameters of a model into layers, from its stem to its head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from ray_classy.models.head_points import in_trunk

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class _Piece(NamedTuple):
    """Parameters that stay together.

    Attributes:
        names: of the parameters.
        kind: "block" for a module of several layers; "weights" for a single layer with a weight matrix or kernel;
            "rest" for norms, embeddings and other parameters.
    """

    names: list[str]
    kind: str


def layer_groups(model: nn.Module) -> list[list[str]]:
    """Returns the names of a model's parameters, layer by layer in the order of its submodules.

    A layer is a block: a module in a sequence of modules, such as the residual blocks of a ResNet or the encoder layers
    of a transformer. What is before the first block is the stem, layer 0. A convolution or linear layer after the first
    block is a layer of its own, and a norm belongs to the layer before it. A network without blocks has a layer per
    weight matrix. The last layer is made of the heads or, without heads, of the network's own last layer.

    Args:
        model: a `ClassyModel`; its modules must be in the order in which they run.
    """
    pieces = list(_pieces(*_innermost(model)))
    first = next((index for index, piece in enumerate(pieces) if piece.kind == "block"), None)
    layers: list[list[str]] = []
    stem: list[str] = []
    for index, (names, kind) in enumerate(pieces):
        if kind == "rest" or (first is not None and index < first):
            (layers[-1] if layers else stem).extend(names)
        else:
            layers.append(names)
    if first is None and layers:
        layers[0] = stem + layers[0]
    elif stem:
        layers.insert(0, stem)
    return [*layers, *heads_group(model)]


def heads_group(model: nn.Module) -> list[list[str]]:
    """Returns the names of the parameters of a model's heads as one group; no group if it has none."""
    heads = [name for name, _ in model.named_parameters() if not in_trunk(name)]
    return [heads] if heads else []


def _innermost(model: nn.Module) -> tuple[nn.Module, str]:
    """Returns the module that a wrapper holds, and its prefix; another model is returned itself."""
    module, prefix = model, ""
    while True:
        children = _children(module, prefix)
        if len(children) != 1 or isinstance(module, _CONTAINERS) or dict(module.named_parameters(recurse=False)):
            return module, prefix
        name, module = children[0]
        prefix = f"{name}."


def _pieces(module: nn.Module, prefix: str) -> Iterator[_Piece]:
    own = [prefix + name for name, _ in module.named_parameters(recurse=False)]
    if own:
        yield _Piece(own, "rest")
    for path, child in _children(module, prefix):
        if _is_divided(child):
            yield from _pieces(child, f"{path}.")
        else:
            names = [f"{path}.{name}" for name, _ in child.named_parameters()]
            yield _Piece(names, "block" if _is_composite(child) else "weights" if _matrices(child) else "rest")


def _children(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Returns the submodules of the trunk that have parameters, by their full paths."""
    children = [(prefix + name, child) for name, child in module.named_children()]
    return [(path, child) for path, child in children if in_trunk(path) and any(True for _ in child.parameters())]


def _is_composite(module: nn.Module) -> bool:
    return len(_children(module)) > 1 or any(_is_composite(child) for _, child in _children(module))


def _is_divided(module: nn.Module) -> bool:
    """Returns whether a module is several layers: a sequence of blocks or of many layers, or a stage around one."""
    children = [child for _, child in _children(module)]
    if isinstance(module, _CONTAINERS):
        return any(map(_is_composite, children)) or _matrices(module) > 2
    sequences = [child for child in children if isinstance(child, _CONTAINERS) and _is_composite(child)]
    blocks = [block for sequence in sequences for _, block in _children(sequence) if _is_composite(block)]
    alike = len({type(block) for block in blocks}) == 1 and not isinstance(blocks[0], _CONTAINERS)
    return len(sequences) == 1 and alike


def _matrices(module: nn.Module) -> int:
    return sum(parameter.ndim > 1 for parameter in module.parameters())
