"""Finds the state dict of a model in what a file of weights holds."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from ray_classy.checkpoint.plain import Foreign
from ray_classy.errors import CheckpointError
from ray_classy.printable import printable

_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "classy_state_dict", "weights")
"""Where files keep a model's state dict, in the order in which it is looked for."""
_AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
"""Where they keep averages of the weights, which count if there is nothing else."""
_DEEPEST = 3
_MOST_NAMED = 5
_Path = tuple[str, ...]


_EMA_HOOK = "ema_model_weights"


class StateDict(NamedTuple):
    """A state dict in a file.

    Attributes:
        key: where it is, with dots; empty for the content of the file itself.
        tensors: by name; none if the file has none.
        others: where the file has further state dicts that could be meant.
    """

    key: str
    tensors: dict[str, torch.Tensor]
    others: list[str]


def find_state_dict(content: Any, key: str | None = None) -> StateDict:
    """Finds the state dict in the content of a file.

    It is an entry under one of the usual keys, which may be nested; or the content itself, if no entry has more
    tensors; or else averages of the weights, or the largest state dict in the file.

    Args:
        content: what the file holds.
        key: where it is, with dots; None looks as above.

    Raises:
        CheckpointError: there are several, and none of them is more likely than the others; there is none under the
            key; or the one that is meant has an entry of an unknown class.
    """
    found = dict(_state_dicts(content, ()))
    path = _usual_path(found) if key is None else _given_path(found, key)
    if path is None:
        return StateDict("", {}, [])
    entries = functools.reduce(operator.getitem, path, content)
    strange = [name for name, value in entries.items() if type(value) is Foreign]
    if strange:
        raise CheckpointError(
            f"{_dotted((*path, strange[0]))} is something else than tensors and plain values: "
            f"{printable(entries[strange[0]].name)}"
        )
    known = [_dotted(other) for other in found if other and other != path and other[0] in (*_USUAL, *_AVERAGES)]
    return StateDict(_dotted(path), found[path], known[:_MOST_NAMED])


def _usual_path(found: Mapping[_Path, Mapping[str, Any]]) -> _Path | None:
    """Returns the keys that lead to the state dict that is meant if no key is given; None if there is none."""
    if not found:
        return None
    usual = next((keys for keys in (_USUAL, _AVERAGES) if any(path and path[0] in keys for path in found)), ())
    most = max(map(len, found.values()))
    if usual is not _USUAL and len(found.get((), ())) == most:
        return ()
    ranks = {
        path: (usual.index(path[0]) if usual else 0, -len(found[path]))
        for path in found
        if not usual or (path and path[0] in usual)
    }
    best = [path for path, rank in ranks.items() if rank == min(ranks.values())]
    if len(best) > 1:
        raise CheckpointError(
            f"the file holds several state dicts of {len(found[best[0]])} tensors ({', '.join(map(_dotted, best))}): "
            f"choose one with pretrained_checkpoint_key"
        )
    return best[0]


def _given_path(found: Mapping[_Path, Mapping[str, Any]], key: str) -> _Path:
    """Returns the keys that lead to the state dict under a key, or to the largest one inside."""
    keys = {path: _dotted(path) for path in found}
    inside = [path for path, name in keys.items() if name == key or name.startswith(f"{key}.")]
    if not inside:
        named = [f"{name or 'the file itself'} ({len(found[path])} tensors)" for path, name in keys.items()]
        rest = f", but {', '.join(named[:_MOST_NAMED])}" if named else ""
        raise CheckpointError(f"there is no state dict under the key {printable(key)}{rest}")
    return max(inside, key=lambda path: (keys[path] == key, len(found[path])))


def has_tensors(content: Any) -> bool:
    """Whether the content of a file has a state dict."""
    return next(_state_dicts(content, ()), None) is not None


def is_average(key: str) -> bool:
    """Whether a key is one of those under which files keep averages of the weights."""
    return key in _AVERAGES


def find_averages(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the averages that the hook `ema_model_weights` keeps in the state of a task.

    Raises:
        CheckpointError: there are none.
    """
    hooks = state.get("hooks")
    hook = hooks.get(_EMA_HOOK) if isinstance(hooks, Mapping) else None
    averages = hook.get("ema_model_state") if isinstance(hook, Mapping) else None
    if not isinstance(averages, Mapping) or not averages:
        raise CheckpointError(f"the checkpoint has no averages of weights: its run had no hook {_EMA_HOOK}")
    return dict(averages)


def _dotted(path: _Path) -> str:
    return ".".join(map(printable, path))


def _state_dicts(content: Any, path: _Path) -> Iterator[tuple[_Path, dict[str, torch.Tensor]]]:
    """Yields the mappings of names to tensors, with the keys that lead to them; other entries beside are left out."""
    if not isinstance(content, Mapping) or len(path) > _DEEPEST:
        return
    tensors = {key: v for key, v in content.items() if isinstance(key, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _state_dicts(value, (*path, key))
