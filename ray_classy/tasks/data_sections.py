"""The sections `dataset.train` and `dataset.test` of a config, also where one source is split between them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.config import Problem
from ray_classy.dataset.class_file import AS_IN_TRAIN
from ray_classy.dataset.classy_dataset import DATASET_REGISTRY, ClassyDataset, build_dataset
from ray_classy.dataset.split import Split
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import config_keys

OF_EACH_PHASE = ("transforms", "use_shuffle", "sampling", "num_samples", "drop_last", "phases_per_epoch")
"""Keys that `dataset.test` does not take from `dataset.train` where one source is split."""


TRAINING_NEEDS_IT = "training needs it (or set test_only: true to evaluate)"


def split_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the section `dataset.split` of a config; None if the phases have sources of their own."""
    dataset = config.get("dataset")
    section = dataset.get("split") if isinstance(dataset, Mapping) else None
    return section if isinstance(section, Mapping) else None


def with_shuffling(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with `use_shuffle` in datasets that do not give it: true for train, false for test."""
    filled: Any = copy.copy(config)  # a `Config` keeps its file and lines
    filled["dataset"] = dict(config.get("dataset") or {})
    for phase_type in ("train", "test"):
        section = filled["dataset"].get(phase_type)
        if section and section.get("use_shuffle") is None and _takes_shuffling(section.get("name")):
            filled["dataset"][phase_type] = {**section, "use_shuffle": phase_type == "train"}
    return filled


def _takes_shuffling(name: Any) -> bool:
    return name in DATASET_REGISTRY and "use_shuffle" in (config_keys(DATASET_REGISTRY[name]) or {})


def with_test_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a config whose `dataset.test` is complete: with `dataset.split`, it takes its keys from `dataset.train`.

    A key that it gives itself counts, and those of `OF_EACH_PHASE` are its own in any case.
    """
    train = (config.get("dataset") or {}).get("train") if split_of(config) is not None else None
    if not isinstance(train, Mapping):
        return config
    own = config["dataset"].get("test") or {}
    if not isinstance(own, Mapping):
        return config
    shared = {key: value for key, value in train.items() if key not in OF_EACH_PHASE}
    return {**config, "dataset": {**config["dataset"], "test": {**shared, **own}}}


def is_of_train(config: Mapping[str, Any], path: tuple[str | int, ...]) -> bool:
    """Whether a key below `dataset.test` is taken from `dataset.train`, where its problem is reported already."""
    if split_of(config) is None or len(path) < 3 or path[:2] != ("dataset", "test"):
        return False
    return path[2] not in (config["dataset"].get("test") or {}) and path[2] not in OF_EACH_PHASE


def dataset_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields what is wrong with the datasets of a config whose keys have the right types."""
    yield from _split_problems(config)
    yield from _class_problems(config)
    dataset = with_test_section(config).get("dataset") or {}
    if config.get("test_only"):
        if not dataset.get("test"):
            yield Problem(("dataset", "test"), "missing; a test_only run evaluates it")
    elif not dataset.get("train"):
        yield Problem(("dataset", "train"), f"missing; {TRAINING_NEEDS_IT}")
    train = dataset.get("train") or {}
    if train.get("sampling") and train.get("use_shuffle") is False:
        place = ("dataset", "train", "use_shuffle")
        yield Problem(place, "false, and sampling decides the order of rows: leave it out")
    if (dataset.get("test") or {}).get("sampling"):
        yield Problem(("dataset", "test", "sampling"), "sampling is for train phases: leave it out here")


def _split_problems(config: Mapping[str, Any]) -> list[Problem]:
    """Returns what is wrong with `dataset.split` and with what it needs beside it."""
    section = split_of(config)
    if section is None:
        return []
    problems = []
    try:
        Split(**section)
    except (ComponentError, TypeError) as error:
        problems.append(Problem(("dataset", "split"), str(error)))
    dataset = config["dataset"]
    if not dataset.get("train"):
        problems.append(Problem(("dataset", "train"), "missing; dataset.split divides its rows between the phases"))
        return problems
    name = (dataset.get("test") or {}).get("name")
    if name not in (None, dataset["train"].get("name")):
        problems.append(
            Problem(
                ("dataset", "test", "name"),
                f"with dataset.split both phases have one source, {dataset['train'].get('name')!r}: leave the name and "
                f"the source out, or set dataset.split to null",
            )
        )
    return problems


def _class_problems(config: Mapping[str, Any]) -> list[Problem]:
    """Returns what is wrong with `classes: as in train`."""
    dataset = config.get("dataset") or {}
    problems = []
    if (dataset.get("train") or {}).get("classes") == AS_IN_TRAIN:
        message = f"{AS_IN_TRAIN!r} is for dataset.test: list the classes, or name a file of them"
        problems.append(Problem(("dataset", "train", "classes"), message))
    elif (dataset.get("test") or {}).get("classes") == AS_IN_TRAIN and not dataset.get("train"):
        message = f"{AS_IN_TRAIN!r} needs dataset.train: list the classes, or name a file of them"
        problems.append(Problem(("dataset", "test", "classes"), message))
    return problems


def build_phase_dataset(
    config: Mapping[str, Any], phase_type: str, train: ClassyDataset | None = None
) -> ClassyDataset:
    """Builds the dataset of a phase type of a checked config.

    Args:
        config: of a task, as it is written.
        phase_type: "train" or "test".
        train: the train dataset, for a test dataset with its classes; built for them if it is None.
    """
    whole, split = with_shuffling(with_test_section(config)), split_of(config)
    section = whole["dataset"][phase_type]
    if section.get("classes") == AS_IN_TRAIN:
        known = train if train is not None else build_dataset(whole["dataset"]["train"])
        if known.classes is None:
            raise DataError(
                f"classes are {AS_IN_TRAIN!r}, and those of the train dataset have no names: leave `classes` out, so "
                f"that the numbers are the targets"
            )
        section = {**section, "classes": list(known.classes)}
    dataset = build_dataset(section)
    return dataset if split is None else Split(**split).take(dataset, phase_type)  # type: ignore[arg-type]


def phase_types_of(config: Mapping[str, Any]) -> list[str]:
    """Returns the phase types that a config has a dataset for."""
    whole = with_test_section(config).get("dataset") or {}
    return [phase_type for phase_type in ("train", "test") if whole.get(phase_type)]
