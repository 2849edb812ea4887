"""Class weights of losses that are counted in the train dataset: `balanced` in a config."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.known_classes import class_indices
from ray_classy.dataset.target_columns import ONLY, IndexColumn, TargetColumn
from ray_classy.errors import ComponentError
from ray_classy.losses import build_loss
from ray_classy.losses.classy_loss import TENSOR_ARGUMENTS

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask

BALANCED = "balanced"
_KEYS = (*TENSOR_ARGUMENTS, "alpha")

C = TypeVar("C", bound=Mapping[str, Any])

_log = logging.getLogger(__name__)


def balanced_weights(config: C, datasets: Mapping[str, Any]) -> C:
    """Returns a task's config with numbers where its loss, or a loss in it, has balanced weights.

    With n rows that have a label, k classes that occur and n_c rows of class c, `weight` (and `alpha` of a focal loss)
    is n / (k n_c), and `pos_weight` is (n - n_c) / n_c. A class without rows has weight 1.

    Args:
        config: of a task, with the number of classes in its heads.
        datasets: of the task.

    Raises:
        ComponentError: there is no train dataset, or its labels are not known without decoding.
    """
    if not _mentions(config.get("loss")):
        return config
    filled: Any = copy.copy(config)
    filled["loss"] = _filled(config["loss"], ONLY, config, datasets.get("train"))
    return filled


def _mentions(config: Any) -> bool:
    if isinstance(config, Mapping):
        return any((key in _KEYS and value == BALANCED) or _mentions(value) for key, value in config.items())
    return isinstance(config, list | tuple) and any(map(_mentions, config))


def _filled(loss: Any, target: str, config: Mapping[str, Any], dataset: Any) -> Any:
    if isinstance(loss, list | tuple):
        return [_filled(one, target, config, dataset) for one in loss]
    if not isinstance(loss, Mapping):
        return loss
    filled: dict[str, Any] = {}
    for key, value in loss.items():
        if key in _KEYS and isinstance(value, str) and value == BALANCED:
            filled[key] = _weights(key, target, _outputs(config, target), dataset, loss.get("ignore_index"))
            _log.info("%s of %s, from the train dataset: %s", key, loss.get("name"), _few(filled[key]))
        elif key == "losses" and isinstance(value, Mapping):
            filled[key] = {name: _filled(one, name, config, dataset) for name, one in value.items()}
        else:
            filled[key] = _filled(value, target, config, dataset) if key in ("loss", "losses") else value
    return filled


def _weights(key: str, target: str, outputs: int | None, dataset: Any, ignored: Any) -> list[float]:
    column = _column(dataset, target, ignored)
    if key != "pos_weight" and not isinstance(column, IndexColumn):
        raise ComponentError(f"{key}: balanced is for one class per row; rows with several have a balanced pos_weight")
    counts, known = column.counts()
    occurs = counts > 0
    safe = np.where(occurs, counts, 1)
    weights = (known - counts) / safe if key == "pos_weight" else known / (occurs.sum() * safe)
    weights = np.where(occurs, weights, 1.0)
    lacking = (outputs or len(weights)) - len(weights)
    return [float(f"{weight:.9g}") for weight in weights] + [1.0] * max(lacking, 0)


def _column(dataset: Any, target: str, ignored: Any) -> TargetColumn:
    """Returns the targets of the rows that a dataset is read for."""
    if not isinstance(dataset, ClassyDataset):
        raise ComponentError(
            "balanced weights are counted in the train dataset, which there is not: list the weights (a run's "
            "checkpoint and `ray-classy show` have those that it was trained with)"
        )
    columns = dataset.target_columns()
    if target in columns:
        column = columns[target]
        return column if dataset.num_samples is None else column.selected(np.arange(len(dataset)))
    labels = class_indices(dataset)
    if labels is None or labels.ndim != 1:
        what = f"target {target!r}" if target else "labels"
        raise ComponentError(f"the train dataset does not know its {what} without decoding rows: list the weights")
    labels = labels[: len(dataset)].astype(np.int64)
    labels = np.where(labels == ignored, -1, labels) if ignored is not None else labels
    return IndexColumn(labels, [""] * max(dataset.num_classes or 0, int(labels.max(initial=-1)) + 1))


def _outputs(config: Mapping[str, Any], target: str) -> int | None:
    heads = (config.get("model") or {}).get("heads") or []
    named = [head.get("num_classes") for head in heads if target in (ONLY, head.get("unique_id"))]
    return named[0] if len(named) == 1 and isinstance(named[0], int) else None


def count_again(task: ClassyTask) -> None:
    """Counts the balanced weights of a task's loss again, after the classes of its train dataset were renumbered."""
    config = getattr(task, "balanced_loss", None)
    if config is None:
        return
    loss: Any = task.base_loss  # type: ignore[attr-defined]
    counted = build_loss(balanced_weights(config, task.datasets)["loss"])
    for module, other in zip(loss.modules(), counted.modules(), strict=True):
        for name in TENSOR_ARGUMENTS:
            if isinstance(getattr(other, name, None), torch.Tensor):
                getattr(module, name).copy_(getattr(other, name))


def _few(weights: list[float]) -> str:
    return ", ".join(f"{weight:.4g}" for weight in weights[:8]) + (", ..." if len(weights) > 8 else "")
