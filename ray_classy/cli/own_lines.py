"""Says in five lines what was chosen for a user's own data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.cli.own_choice import Facts
from ray_classy.cli.own_source import PLACES, Source
from ray_classy.config.document import search_node
from ray_classy.dataset.data_report import class_counts

_MOST_CLASSES = 6
_AUGMENTATIONS = {
    "RandomResizedCrop": "random crops",
    "random_shift": "shifts",
    "RandomHorizontalFlip": "flips",
    "TrivialAugmentWide": "TrivialAugment, as there are few images of a class",
}


def data_lines(source: Source, datasets: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line about the classes, and one about the split."""
    train, rows, tests = datasets["train"], len(datasets["train"]), len(datasets["test"])
    names, counts = class_counts(train) or ([], [])
    used = sorted(((names[at], int(count)) for at, count in enumerate(counts) if count), key=lambda one: -one[1])
    listed = ", ".join(f"{name} {count:,}" for name, count in used[:_MOST_CLASSES])
    more = f", ..., {used[-1][0]} {used[-1][1]:,}" if len(used) > _MOST_CLASSES else ""
    yield f"data: {source.name}: {rows + tests:,} images of {len(used):,} classes; to train on: {listed}{more}"
    if train.split_rows is None:
        places = [_place(section) for section in (source.train, source.test or {})]
        yield f"split: {rows:,} to train on ({places[0]}), {tests:,} for tests ({places[1]})"
        return
    split = train.split_rows.split
    by = f"the column {split.id}" if split.id else "their names"
    both = ", each class on both sides" if split.stratify else ""
    yield f"split: {rows:,} to train on, {tests:,} for tests ({tests / (rows + tests):.0%}), by a hash of {by}{both}"


def training_lines(
    config: Mapping[str, Any], facts: Facts, side: int | None, room: str, own_transforms: bool
) -> Iterator[str]:
    """Yields a line each about the model, the images, and the training.

    Args:
        config: what is trained.
        facts: see there.
        side: of the model's input in pixels.
        room: what is said of the memory for the batch; empty for nothing.
        own_transforms: whether the user gives the transforms.
    """
    yield f"model: {_model_line(config.get('model') or {})}"
    batch = config["dataset"]["train"].get("batchsize_per_replica")
    each = f" for each of {facts.workers} workers" if facts.workers > 1 else ""
    room = f", {room}" if room else ""
    device = {True: "on a GPU", False: "on CPUs", None: "on the cluster"}[facts.on_gpu]
    pixels = "as your transforms make them" if own_transforms else f"{side} x {side} pixels"
    yield f"images: {pixels}, in batches of {batch}{each}{room}, {device}"
    steps = f" of {-(-facts.rows // (batch * facts.workers)):,} steps" if isinstance(batch, int) and batch > 0 else ""
    augmentation = "of your own" if own_transforms else _augmentation(config)
    yield f"training: {config.get('num_epochs')} epochs{steps}, {_rate(config)}, augmentation: {augmentation}"


def _place(section: Mapping[str, Any]) -> str:
    place = next((section[key] for key in PLACES.values() if key in section), "")
    return f"{len(place)} files" if isinstance(place, list) else str(place)


def _model_line(model: Mapping[str, Any]) -> str:
    name, network = model.get("name"), model.get("model")
    what, weights = (
        f"{network} of {name}" if network else f"a small {name}",
        model.get("weights", model.get("pretrained")),
    )
    if weights:
        return f"{what}, from the weights {'DEFAULT' if weights is True else weights}"
    return (
        f"{what}, from scratch, as no --weights are given; --weights DEFAULT (a download) or a file of weights is "
        f"usually better, above all with few images"
    )


def _rate(config: Mapping[str, Any]) -> str:
    rate: Any = config.get("optimizer")
    for key in ("param_schedulers", "lr"):
        rate = rate.get(key) if isinstance(rate, Mapping) else None
    if search_node(rate) is not None:
        return "learning rate searched"
    then = rate.get("then", rate) if isinstance(rate, Mapping) else {}
    start = then.get("start_value") if isinstance(then, Mapping) else None
    return f"learning rate {start:g}" if isinstance(start, int | float) else "a learning rate of your own"


def _augmentation(config: Mapping[str, Any]) -> str:
    chosen = config["dataset"]["train"]["transforms"][0]["transforms"]
    return ", ".join(_AUGMENTATIONS[one["name"]] for one in chosen if one.get("name") in _AUGMENTATIONS)
