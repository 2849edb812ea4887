"""Pictures of the first batches of a run, as its network saw them: cropped, augmented, mixed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ray_classy.dataset.known_classes import class_names
from ray_classy.dataset.target_columns import ONLY
from ray_classy.report.pictures import Album
from ray_classy.report.words import percent, shortened
from ray_classy.seeding import host_rng_kept, seed_host
from ray_classy.tasks.build import build_checked_task
from ray_classy.tasks.draft import Draft
from ray_classy.tasks.task_config import checked

_BATCHES, _EACH = 2, 16
_MOST_LEVELS, _MOST_LABELS = 6, 4
_NOT_NEEDED = ("checkpoint", "pretrained_checkpoint", "hooks", "tune")


@dataclass(frozen=True)
class FirstBatches:
    """What the train dataset gives first.

    Attributes:
        rows: of the train dataset.
        batch_size: rows of a batch of one worker.
        classes: how many there are; None if that is not known.
        shape: of an input; None if it is not a tensor.
        batches: captions of the rows of each batch, with the numbers of their pictures.
        stretched: whether brightness is stretched, as the statistics that it was normalized by are not known.
    """

    rows: int
    batch_size: int
    classes: int | None
    shape: tuple[int, ...] | None
    batches: list[list[dict[str, Any]]]
    stretched: bool


def first_batches(config: Mapping[str, Any], album: Album) -> FirstBatches:
    """Reads the first batches of the first worker.

    Args:
        config: of the run.
        album: gets the pictures.

    Raises:
        RayClassyError: the data cannot be read.
    """
    config = {key: value for key, value in config.items() if key not in _NOT_NEEDED}
    with host_rng_kept():
        task = build_checked_task(checked(config), Draft("meta"))
        seed_host(task.seed)
        dataset: Any = task.datasets["train"]
        batches = list(itertools.islice(dataset.iterator(phase_type="train", seed=task.seed, num_workers=0), _BATCHES))
        batches = [batch for batch in batches if isinstance(batch, dict)]
        mixup = task.mixup_transform
        batches = [batch if mixup is None else mixup(dict(batch)) for batch in batches]
    statistics = normalization(getattr(dataset, "transform", None))
    classes = {ONLY: class_names(dataset), **{name: one.classes for name, one in dataset.target_columns().items()}}
    shown = [list(_captioned(batch, statistics, classes, album)) for batch in batches]
    inputs = [batch["input"] for batch in batches if isinstance(batch.get("input"), torch.Tensor)]
    return FirstBatches(
        rows=len(dataset),
        batch_size=dataset.get_batchsize_per_replica(),
        classes=getattr(dataset, "num_classes", None),
        shape=tuple(inputs[0].shape[1:]) if inputs else None,
        batches=[one for one in shown if one],
        stretched=bool(inputs) and statistics is None and _outside(inputs[0]),
    )


def _outside(inputs: torch.Tensor) -> bool:
    return inputs.is_floating_point() and bool(((inputs < 0) | (inputs > 1)).any())


def _captioned(
    batch: Mapping[str, Any], statistics: Any, classes: Mapping[str, Sequence[str] | None], album: Album
) -> Iterator[dict[str, Any]]:
    inputs = batch.get("input")
    if isinstance(inputs, Mapping):
        inputs = inputs.get("video")
    if not isinstance(inputs, torch.Tensor):
        return
    for number, value in enumerate(inputs[:_EACH]):
        picture = album.add(value if statistics is None else _restored(value, *statistics))
        if picture is not None:
            yield {"picture": picture, "label": _label(batch.get("target"), number, classes), "name": ""}


def _label(target: Any, number: int, classes: Mapping[str, Sequence[str] | None]) -> str:
    """The label of a row, or those of all its targets; of a mixed row, those that it is mixed of."""
    if isinstance(target, Mapping):
        named = {name: _label(one, number, {ONLY: classes.get(str(name))}) for name, one in target.items()}
        return ", ".join(f"{name}: {label}" for name, label in named.items())
    if not isinstance(target, torch.Tensor):
        return ""
    one, names = target[number], classes.get(ONLY)
    if one.ndim == 0:
        return _name(int(one), names)
    shares = one.flatten().float().numpy()
    order = np.argsort(-shares, kind="stable")[:_MOST_LABELS]
    parts = [(int(at), float(shares[at])) for at in order if shares[at] > 0.01]
    mixed = one.is_floating_point() and any(share < 0.99 for _, share in parts)
    return ", ".join(f"{percent(share)} {_name(at, names)}" if mixed else _name(at, names) for at, share in parts)


def _name(number: int, classes: Sequence[str] | None) -> str:
    if number < 0:
        return "no label"
    return shortened(str(classes[number])) if classes is not None and number < len(classes) else str(number)


def _restored(value: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Takes back the normalization of a row (C, ...)."""
    if value.shape[0] not in (len(mean), 3) or not value.is_floating_point():
        return value
    size = (-1, *[1] * (value.ndim - 1))
    middle, scale = (torch.tensor(list(one), dtype=value.dtype).view(size) for one in (mean, std))
    return (value * scale + middle).clamp(0, 1)


def normalization(transform: Any, level: int = 0) -> tuple[Sequence[float], Sequence[float]] | None:
    """Returns mean and standard deviation of the transform that normalizes, wherever it is inside; None without one."""
    mean, std = getattr(transform, "mean", None), getattr(transform, "std", None)
    if isinstance(mean, list | tuple) and isinstance(std, list | tuple):
        return mean, std
    inner = next(filter(None, (getattr(transform, name, None) for name in ("transforms", "transform"))), None)
    parts = inner if isinstance(inner, list | tuple | torch.nn.ModuleList) else [inner]
    if inner is None or callable(getattr(inner, "__func__", None)) or level > _MOST_LEVELS:  # a method, or no transform
        return None
    return next((found for part in parts if (found := normalization(part, level + 1)) is not None), None)
