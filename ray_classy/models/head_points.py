"""The blocks of a trunk: its named submodules, which heads can be attached to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from ray_classy.errors import ComponentError, UnknownComponentError
from ray_classy.registry import nearest

_MOST_NAMED = 16
HEADS = "_heads"  # the one submodule of a model that is not part of its trunk


def in_trunk(path: str) -> bool:
    """Whether a submodule, parameter or buffer of a model belongs to its trunk."""
    return path != HEADS and not path.startswith(f"{HEADS}.")


def unambiguous_names(model: nn.Module) -> list[str]:
    """The names, as in their parents, that a single submodule of the trunk has."""
    names = Counter(path.rpartition(".")[2] for path in _blocks(model))
    return [name for name, count in names.items() if count == 1]


def block_list(model: nn.Module, channels: Mapping[str, int] = MappingProxyType({})) -> str:
    """The names of the blocks that heads can read, for a message; of many, the last ones, which heads mostly read.

    Args:
        model: with these blocks.
        channels: of the blocks of which they are known.
    """
    names = [name + (f" ({channels[name]} channels)" if name in channels else "") for name in unambiguous_names(model)]
    return ("..., " if len(names) > _MOST_NAMED else "") + ", ".join(names[-_MOST_NAMED:])


def find_block(model: nn.Module, name: str) -> nn.Module:
    """The submodule of the trunk with that full path, or else the one with that name.

    Raises:
        UnknownComponentError: there is none.
        ComponentError: there are several.
    """
    blocks = _blocks(model)
    if name in blocks:
        return blocks[name]
    paths = [path for path in blocks if path.rpartition(".")[2] == name]
    if not paths:
        near = nearest(name, unambiguous_names(model))
        raise UnknownComponentError(
            f"{type(model).__name__} has no block {name!r} to attach a head to: "
            + (f"did you mean {near}?" if near else f"its blocks are {block_list(model)}")
        )
    if len(paths) > 1:
        raise ComponentError(f"{len(paths)} blocks are called {name!r}; give the full path of one: {', '.join(paths)}")
    return blocks[paths[0]]


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    return {path: module for path, module in model.named_modules() if path and in_trunk(path)}
