"""Finds the weights of a model in a plain state dict, under the names and prefixes that others gave to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.errors import CheckpointError
from ray_classy.models.head_points import HEADS

if TYPE_CHECKING:
    from ray_classy.models.classy_model import ClassyModel

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What torch.compile, FSDP and activation checkpointing insert into names, anywhere."""
_COUNTERS = {"n_averaged"}
"""Entries of wrappers (AveragedModel) that are no weights."""
_CLASSIFIER = re.compile(r"(fc|last_linear|classifier(?:\.\d+)?|head(?:\.fc)?|heads\.head)\.(weight|bias)")
"""Where other libraries keep their classification layers."""
_DEEPEST = 6  # parts of a prefix


@dataclass(frozen=True)
class FoundWeights:
    """The weights of a file under the names of a model.

    Attributes:
        weights: by the model's names; entries that it does not have keep the names of the file, without the prefix.
        prefix: was in front of the names that the model has.
        others: entries without the prefix: of a loss, a teacher or another part of what was saved.
    """

    weights: dict[str, Any]
    prefix: str
    others: dict[str, Any]


def find_weights(model: ClassyModel, given: Mapping[str, Any]) -> FoundWeights:
    """Finds a model's weights in a state dict.

    The names may be the model's own or those that `model.own_names` knows, and may share a prefix of any wrapper. Of
    several prefixes, the one under which most of the model's names are found counts.

    Args:
        model: its names and shapes are looked for.
        given: name to tensor.

    Raises:
        CheckpointError: two parts of the file fit alike.
    """
    own = model.state_dict()
    plain = {_unwrapped(name, own): value for name, value in given.items() if name not in _COUNTERS}
    added = _common_prefix(name for name in own if not name.startswith(f"{HEADS}."))
    best: tuple[int, str, str] = (0, "", "")
    rivals: list[str] = []
    for prefix, count in sorted(_prefixes(plain).items(), key=lambda item: (-item[1], len(item[0]))):
        if 2 * count < best[0]:
            break
        inside = {name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)}
        for front in {"": None, added: None}:
            score = _score(own, model.own_names({front + name: value for name, value in inside.items()}))
            if score > best[0]:
                best, rivals = (score, prefix, front), [prefix]
            elif score == best[0] and score and not any(prefix.startswith(rival) for rival in rivals):
                rivals.append(prefix)
    _, prefix, front = best
    if len(rivals) > 1:
        prefix = _chosen(rivals)
    inside = {front + name.removeprefix(prefix): v for name, v in plain.items() if name.startswith(prefix)}
    others = {name: value for name, value in plain.items() if not name.startswith(prefix)}
    named = model.own_names(inside)
    if added and not front and best[0]:  # the file has this first part of the names too, and others beside it
        others |= {name: named.pop(name) for name in [*named] if name not in own and not name.startswith(added)}
    if front:  # the trunk is a wrapped module; a head beside it is not
        unknown = {name.removeprefix(front): value for name, value in named.items() if name not in own}
        headed = {name: value for name, value in with_head_names(model, unknown).items() if name in own}
        used = set(map(id, headed.values()))
        named = {**{name: value for name, value in named.items() if id(value) not in used}, **headed}
    return FoundWeights(named, prefix, others)


def split_heads(model: ClassyModel, weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Splits weights under a model's names into those of its trunk and those of its heads, as in its state.

    Args:
        model: the weights are for.
        weights: name to tensor; unknown names go to the trunk.
    """
    trunk = dict(weights)
    heads: dict[str, dict[str, Any]] = {}
    prefixes = {id(module): f"{name}." for name, module in model.named_modules()}
    for block, attached in model.get_heads().items():
        for head in attached:
            prefix = prefixes[id(head)]
            names = [name for name in trunk if name.startswith(prefix)]
            heads.setdefault(block, {})[head.unique_id] = {name.removeprefix(prefix): trunk.pop(name) for name in names}
    return trunk, heads


def _chosen(prefixes: list[str]) -> str:
    """Returns the prefix that is meant where several fit alike: the encoder that MoCo trains, or none is."""
    trained = [prefix for prefix in prefixes if "encoder_q." in prefix]
    if len(trained) == 1:
        return trained[0]
    raise CheckpointError(
        f"{len(prefixes)} parts of the file fit the model alike, under the prefixes {', '.join(map(repr, prefixes))}: "
        f"write a file with one of them"
    )


def _unwrapped(name: str, own: Mapping[str, Any]) -> str:
    if name in own or not any(wrapper in name for wrapper in _WRAPPERS):
        return name
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _prefixes(names: Iterable[str]) -> Counter[str]:
    """Counts the names behind each dotted prefix."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1][:_DEEPEST]
        counts.update({"".join(f"{part}." for part in parts[:depth]) for depth in range(len(parts) + 1)})
    return counts


def _common_prefix(names: Iterable[str]) -> str:
    """Returns the first part that all names share, with its dot; empty if they share none."""
    firsts = {name.partition(".")[0] if "." in name else "" for name in names}
    return f"{firsts.pop()}." if len(firsts) == 1 and firsts != {""} else ""


def _score(own: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """Counts the weights of the model that are given, those of the same shape twice."""
    names = [name for name in given if name in own]
    return len(names) + sum(_shape(given[name]) == _shape(own[name]) for name in names)


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, torch.Tensor) else None


def with_head_names(model: ClassyModel, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the classifier of another library to the last layer of the model's only head, if it has such a one.

    Args:
        model: the weights are for.
        weights: name to tensor, without a prefix. The classifier is one linear layer, of any of the usual names.
    """
    own = model.state_dict().keys()
    layers = {name.rpartition(".")[0] for name in own if name.startswith(f"{HEADS}.") and name.endswith(".fc.weight")}
    found = {name: match for name in weights if name not in own and (match := _CLASSIFIER.fullmatch(name)) is not None}
    if layers != {f"{HEADS}.0.fc"} or len({match[1] for match in found.values()}) != 1:
        return dict(weights)
    return {f"{HEADS}.0.fc.{found[name][2]}" if name in found else name: value for name, value in weights.items()}
