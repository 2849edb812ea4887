"""Finds the state dict of a model in what a file of weights holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "classy_state_dict", "weights")
"""Where files keep a model's state dict, in the order in which it is looked for."""
_AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
"""Where they keep averages of the weights, which count if there is nothing else."""
_ITSELF = ""
_DEEPEST = 3


def find_state_dict(content: Any) -> dict[str, torch.Tensor] | None:
    """Returns the state dict in the content of a file; None if there is none.

    It is an entry under one of the usual keys, which may be nested; or the content itself; or else averages of the
    weights, or the largest state dict in the file.

    Args:
        content: what the file holds.
    """
    found = dict(_state_dicts(content, ()))
    for usual in (_USUAL, (_ITSELF,), _AVERAGES):
        named = [path for path in found if path[0] in usual]
        if named:
            return found[min(named, key=lambda path: (usual.index(path[0]), -len(found[path])))]
    return max(found.values(), key=len, default=None)


def _state_dicts(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """Yields the mappings of names to tensors, with the keys that lead to them; other entries beside are left out."""
    if not isinstance(content, Mapping) or len(path) > _DEEPEST:
        return
    tensors = {key: v for key, v in content.items() if isinstance(key, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield path or (_ITSELF,), tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _state_dicts(value, (*path, key))
