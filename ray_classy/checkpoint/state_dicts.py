"""Finds the state dict of a model in what a file of weights holds."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ray_classy.checkpoint.plain import Foreign
from ray_classy.errors import CheckpointError
from ray_classy.printable import printable

_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "classy_state_dict", "weights")
"""Where files keep a model's state dict, in the order in which it is looked for."""
_AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
"""Where they keep averages of the weights, which count if there is nothing else."""
_DEEPEST = 3


def find_state_dict(content: Any) -> tuple[str, dict[str, torch.Tensor]]:
    """Returns the state dict in the content of a file, after the key that it is under.

    It is an entry under one of the usual keys, which may be nested; or the content itself, if no entry has more
    tensors; or else averages of the weights, or the largest state dict in the file.

    Args:
        content: what the file holds.

    Returns:
        The key, empty for the content itself, and the tensors, of which there are none if the file has none.

    Raises:
        CheckpointError: there are several, and none of them is more likely than the others; or the one that is meant
            has an entry of an unknown class.
    """
    found = dict(_state_dicts(content, ()))
    usual = next((keys for keys in (_USUAL, _AVERAGES) if any(path and path[0] in keys for path in found)), ())
    most = max(map(len, found.values()), default=0)
    if usual is not _USUAL and len(found.get((), ())) == most:
        return "", found.get((), {})
    ranks = {
        path: (usual.index(path[0]) if usual else 0, -len(found[path]))
        for path in found
        if not usual or (path and path[0] in usual)
    }
    best = [path for path, rank in ranks.items() if rank == min(ranks.values())]
    keys = [".".join(map(printable, path)) for path in best]
    weights = found[best[0]]
    if len(best) > 1:
        raise CheckpointError(
            f"the file holds several state dicts of {len(weights)} tensors ({', '.join(keys)}): "
            f"write the one that you mean to a file of its own"
        )
    entries = functools.reduce(operator.getitem, best[0], content)
    strange = [name for name, value in entries.items() if type(value) is Foreign]
    if strange:
        raise CheckpointError(
            f"{keys[0]}.{printable(strange[0])} is something else than tensors and plain values: "
            f"{printable(entries[strange[0]].name)}"
        )
    return keys[0], weights


def _state_dicts(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """Yields the mappings of names to tensors, with the keys that lead to them; other entries beside are left out."""
    if not isinstance(content, Mapping) or len(path) > _DEEPEST:
        return
    tensors = {key: v for key, v in content.items() if isinstance(key, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _state_dicts(value, (*path, key))
