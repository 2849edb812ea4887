"""The split of a task's rows between its phases: recorded in checkpoints, and compared with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.config.places import locate
from ray_classy.dataset.split import SplitRows
from ray_classy.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask

_log = logging.getLogger(__name__)


def _splits(datasets: Mapping[str, Any]) -> dict[str, SplitRows]:
    found = {phase_type: getattr(dataset, "split_rows", None) for phase_type, dataset in datasets.items()}
    return {phase_type: split for phase_type, split in found.items() if isinstance(split, SplitRows)}


def recorded_split(datasets: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what a checkpoint records of the split of datasets; None if their rows were not split."""
    split = next(iter(_splits(datasets).values()), None)
    return None if split is None else split.record()


def check_one_source(datasets: Mapping[str, Any]) -> None:
    """Checks that the sides of a split are those of the same rows.

    Raises:
        DataError: they are of other rows, so that a row might be on both sides.
    """
    splits = _splits(datasets)
    if len(splits) == 2 and splits["test"].change(splits["train"].record()) == "replaced":
        raise DataError(
            f"reads other rows than dataset.train ({splits['test'].ids:,} ids, {splits['train'].ids:,} there): with "
            f"dataset.split both phases have one source, so leave the keys of the source out of dataset.test"
        )


def check_split(task: ClassyTask, content: Mapping[str, Any], where: str | None = None) -> list[str]:
    """Compares the split of a task's rows with that of a checkpoint.

    Args:
        task: has the datasets.
        content: of the checkpoint that the run starts from.
        where: path of the checkpoint, for the message.

    Returns:
        Warnings: files were added or removed since, which moves no other row to the other side.

    Raises:
        CheckpointError: the rule is another one, or rows have other ids, so that test rows may have been trained on.
    """
    before = (content.get("ray_classy") or {}).get("split")
    place = locate(task.built_from, "dataset", "split")
    return compare_split(before, task.datasets, getattr(task, "test_only", False), where, place)


def compare_split(
    before: Mapping[str, Any] | None,
    datasets: Mapping[str, Any],
    test_only: bool,
    where: str | None = None,
    place: str = "",
) -> list[str]:
    """Does what `check_split` does.

    Args:
        before: the record of a checkpoint; None if it has none.
        datasets: by phase type.
        test_only: whether they are only evaluated on.
        where: path of the checkpoint, for the message.
        place: of the split in the config, with which the message begins.
    """
    now = next(iter(_splits(datasets).values()), None)
    if (before is None and now is None) or (test_only and (before is None or now is None)):
        return []
    checkpoint = f"the run of the checkpoint{f' {where}' if where else ''}"
    if before is None:
        raise CheckpointError(
            f"{place}{checkpoint} was trained without dataset.split, so perhaps on rows that are test rows now: leave "
            f"the split out, or start a new run"
        )
    then = before["rule"]
    if now is None:
        raise CheckpointError(
            f"{place}{checkpoint} was trained on one side of a split ({_written(then)}), and there is no dataset.split "
            f"now: set it as it was, or start a new run"
        )
    rule = now.split.rule()
    if rule != then:
        raise CheckpointError(
            f"{place}{checkpoint} was trained with another split, so perhaps on rows that are test rows now: it was "
            f"{_written(then)}, and is {_written(rule)}. Set dataset.split as it was, or start a new run"
        )
    change = now.change(before)
    if change == "replaced":
        raise CheckpointError(
            f"{place}{checkpoint} was trained on one side of a split of {before['ids']:,} rows, and of the {now.ids:,} "
            f"rows now some have other ids: files were renamed, moved to other folders or replaced, or the source is "
            f"another one. Test rows may have been trained on: put the files back, or start a new run"
        )
    if change is None:
        return []
    return [
        f"{checkpoint} was trained on one side of a split of {before['ids']:,} rows; some were {change} since, and "
        f"there are {now.ids:,}: the others are on the side where they were"
    ]


def log_split(task: ClassyTask, content: Mapping[str, Any], where: str | None = None) -> None:
    """Does what `check_split` does, and logs the warnings."""
    for warning in check_split(task, content, where):
        _log.warning("%s", warning)


def _written(rule: Mapping[str, Any]) -> str:
    given = [f"{key}: {value}" for key, value in rule.items() if key != "hash" and value not in (None, False)]
    return f"{{{', '.join(given)}}}"
