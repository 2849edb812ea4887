"""The blocks of a trunk: its named submodules, which heads can be attached to."""

from __future__ import annotations

from collections import Counter

from torch import nn

from ray_classy.errors import ComponentError, UnknownComponentError
from ray_classy.registry import nearest

HEADS = "_heads"  # the one submodule of a model that is not part of its trunk


def in_trunk(path: str) -> bool:
    """Whether a submodule, parameter or buffer of a model belongs to its trunk."""
    return path != HEADS and not path.startswith(f"{HEADS}.")


def unambiguous_names(model: nn.Module) -> list[str]:
    """The names, as in their parents, that a single submodule of the trunk has."""
    names = Counter(path.rpartition(".")[2] for path in _blocks(model))
    return [name for name, count in names.items() if count == 1]


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
            + (f"did you mean {near}?" if near else "see its attachable_block_names")
        )
    if len(paths) > 1:
        raise ComponentError(f"{len(paths)} blocks are called {name!r}; give the full path of one: {', '.join(paths)}")
    return blocks[paths[0]]


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    return {path: module for path, module in model.named_modules() if path and in_trunk(path)}
