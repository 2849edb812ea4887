"""Builds the datasets of a user's own data, and checks that their rows have classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray_classy.cli.own_source import Source
from ray_classy.config import Config
from ray_classy.config.document import search_node
from ray_classy.dataset.data_report import class_counts
from ray_classy.dataset.split import Split
from ray_classy.errors import DataError
from ray_classy.tasks.data_sections import build_phase_dataset, split_of
from ray_classy.tasks.task_config import checked


def build_datasets(config: Config, source: Source) -> dict[str, Any]:
    """Builds the datasets of both phases without their transforms, which depend on what is in them.

    Args:
        config: of a task.
        source: of the rows, for messages.

    Raises:
        ConfigError: the config has mistakes.
        DataError: rows cannot be read, or do not have one class each, of two or more.
    """
    sections = {kind: _bare(section) for kind, section in config["dataset"].items()}
    whole = Config({**config, "dataset": sections}, config.file, config.marks)
    if search_node(whole) is None:
        checked(whole)
    train = build_phase_dataset({**whole, "dataset": {"train": sections["train"]}}, "train")
    _check_classes(source, train)
    split = split_of(whole)
    if split is not None:
        Split(**split).take(train, "train")
    return {"train": train, "test": build_phase_dataset(whole, "test", train)}


def _bare(section: Any) -> Any:
    if not isinstance(section, Mapping) or "transforms" not in section:
        return section
    return {key: value for key, value in section.items() if key != "transforms"}


def _check_classes(source: Source, train: Any) -> None:
    """Checks that each row has one class, of two or more.

    Raises:
        DataError: it is not so.
    """
    names, counts = class_counts(train) or ([], [])
    used = [(names[number], int(count)) for number, count in enumerate(counts) if count]
    if train.target_columns():
        raise DataError(
            f"{source.name}: rows have several labels, for which there are other recipes: "
            f"ray-classy recipes multi_label"
        )
    if not used:
        raise DataError(f"{source.name}: no labels" + (f": {train.without_targets}" if train.without_targets else ""))
    if len(used) == 1:
        inside = _inside(source.train.get("image_folder"), used[0][0])
        hint = f"; it has folders of its own: give {inside!r}" if inside else "; at least two are needed"
        raise DataError(f"{source.name}: all {used[0][1]:,} rows are of one class, {used[0][0]!r}{hint}")


def _inside(folder: Any, name: str) -> str | None:
    """Returns the only class folder if it has folders, as an archive that was unpacked into a folder of its own."""
    path = os.path.join(str(folder), name)
    below = os.path.isdir(path) and any(os.path.isdir(os.path.join(path, inner)) for inner in os.listdir(path))
    return path if folder is not None and below else None
