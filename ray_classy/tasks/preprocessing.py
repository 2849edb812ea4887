"""Puts the preprocessing of a task's model in the place of `model_preprocessing` in the config of its datasets."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from ray_classy.models import MODEL_REGISTRY
from ray_classy.models.preprocessing import Preprocessing

T = TypeVar("T", bound=dict[str, Any])

_NAME = "model_preprocessing"


def with_preprocessing(config: T) -> T:
    """Returns a task's config with ordinary transforms for each `model_preprocessing` in lists of transforms.

    Args:
        config: a checked config; it is not written to.

    Raises:
        RayClassyError: the network of the model is not known.
    """
    datasets = config.get("dataset") or {}
    if not any(_mentions(section) for section in datasets.values()):
        return config
    model = config["model"]
    found = MODEL_REGISTRY.named_class(model).preprocessing(model)
    filled = copy.copy(config)
    filled["dataset"] = {kind: _expanded(section, found, kind) for kind, section in datasets.items()}
    return filled


def _mentions(value: Any) -> bool:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return _is_entry(value) or any(map(_mentions, items))


def _is_entry(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("name") == _NAME


def _expanded(value: Any, found: Preprocessing, kind: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _expanded(inner, found, kind) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    expanded: list[Any] = []
    for inner in value:
        expanded += _transforms(inner, found, kind) if _is_entry(inner) else [_expanded(inner, found, kind)]
    return expanded


def _transforms(entry: Mapping[str, Any], found: Preprocessing, kind: str) -> list[dict[str, Any]]:
    train = kind == "train" if entry.get("train") is None else entry["train"]
    return (found if entry.get("size") is None else found.of_size(entry["size"])).transforms(train)
