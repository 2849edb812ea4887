"""The classes of a task's datasets: matched by name with each other and with a checkpoint's, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.class_match import alike, class_map, few, numbers_of, yaml_list
from ray_classy.dataset.classy_dataset import class_indices, class_names
from ray_classy.dataset.sampling import ClassySampling
from ray_classy.dataset.split import SplitRows
from ray_classy.errors import DataError
from ray_classy.tasks.resume import locate

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask


class _Known(NamedTuple):
    """Classes that others are matched with.

    Attributes:
        names: in the order of their targets; None if targets are integers without names.
    """

    names: list[str] | None


def recorded_classes(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a checkpoint records of the datasets' classes.

    Returns:
        `classes`: the names by phase type, of those that have names; `unnamed_labels`: the phase types of the datasets
        whose labels are integers without names.
    """
    kinds = {phase_type: _classes_of(dataset) for phase_type, dataset in datasets.items()}
    return {
        "classes": {phase_type: kind.names for phase_type, kind in kinds.items() if kind is not None and kind.names},
        "unnamed_labels": [phase_type for phase_type, kind in kinds.items() if kind is not None and not kind.names],
    }


def match_classes(task: ClassyTask, content: Mapping[str, Any] | None = None, where: str | None = None) -> None:
    """Gives the datasets the targets of the checkpoint's classes or, without a checkpoint, of the train dataset's.

    Classes are matched by name; integer labels with classes whose names are those integers. Datasets that are built on
    other rows than files are not changed: their classes must have the same order already.

    Args:
        task: has the datasets.
        content: of the checkpoint that the run starts from.
        where: path of the checkpoint, for the message.

    Raises:
        DataError: classes have no counterpart, so that the model's outputs would mean different things.
    """
    before = _recorded(content)
    for phase_type in ("train", "test"):
        dataset = task.datasets.get(phase_type)
        known = before.get(phase_type) or before.get("train") or before.get("test")
        if dataset is not None and known is not None:
            _match(
                task, phase_type, known, f"the checkpoint{f' {where}' if where else ''} was trained on", "then", "now"
            )
    train = _classes_of(task.datasets.get("train"))
    if not before and train is not None and "test" in task.datasets:
        _match(task, "test", train, "the train dataset has", "in train", "in test")


def _recorded(content: Mapping[str, Any] | None) -> dict[str, _Known]:
    """Returns what `recorded_classes` wrote into a checkpoint; nothing if it is of another form."""
    record = (content or {}).get("ray_classy")
    names, unnamed = ((record if isinstance(record, Mapping) else {}).get(key) for key in ("classes", "unnamed_labels"))
    known: dict[str, _Known] = {}
    for phase_type in ("train", "test"):
        listed = names.get(phase_type) if isinstance(names, Mapping) else None
        if isinstance(listed, list | tuple) and listed and all(isinstance(name, str) for name in listed):
            known[phase_type] = _Known(list(listed))
        elif isinstance(unnamed, list) and phase_type in unnamed:
            known[phase_type] = _Known(None)
    return known


def _match(task: ClassyTask, phase_type: str, known: _Known, those: str, there: str, here: str) -> None:
    dataset = task.datasets[phase_type]
    own = _classes_of(dataset, own=True)
    if own is None:
        return
    labels = dataset.own_classes()[1] if isinstance(dataset, ClassyDataset) else None
    try:
        by_target = class_map(own.names, known.names, labels, (there, here), whole=phase_type == "train")
        changed = any(target != other for target, other in by_target.items())
        if changed and not (isinstance(dataset, ClassyDataset) and dataset.map_targets(by_target, known.names)):
            class_map(own.names, known.names, labels, (there, here), whole=True)
            raise DataError(f"the order differs: {few(known.names or [])} {there}, {few(own.names or [])} {here}")
        if not changed and known.names != class_names(dataset) and isinstance(dataset, ClassyDataset):
            dataset.map_targets({}, known.names)
    except DataError as error:
        raise DataError(
            f"{locate(task, 'dataset', phase_type)}the {phase_type} dataset does not have the classes that {those}: "
            f"{error}. {_remedy(phase_type, own, known)}"
        ) from None


def _remedy(phase_type: str, own: _Known, known: _Known) -> str:
    key = f"dataset.{phase_type}.classes"
    if own.names is None and known.names is not None:
        if numbers_of(known.names) is not None:
            return "Correct the labels: each is the name of its class"
        return (
            f"Name the classes in the order of the numbers: `{key}: [name of 0, name of 1, ...]`, with the names "
            f"{few(known.names)}"
        )
    if known.names is None:
        named = f"`classes: {yaml_list(own.names or [])}`"
        return f"Number the folders or labels as there, or name the classes there ({named})"
    listed = f"`{key}: {yaml_list(known.names)}`"
    return f"Use the data of those {len(known.names)} classes, or list them in their order ({listed})"


def _classes_of(dataset: Any, own: bool = False) -> _Known | None:
    """Returns a dataset's classes as they are, or as they were before they were mapped; None if it knows neither."""
    if dataset is None:
        return None
    if own and isinstance(dataset, ClassyDataset):
        names, labels = dataset.own_classes()
    else:
        names = class_names(dataset)
        labels = class_indices(dataset) if isinstance(dataset, ClassyDataset) else None
    return None if names is None and labels is None else _Known(names)


_MOST_OUTPUTS_PER_LABEL = 4
_SPARE_OUTPUTS = 10


def number_of_outputs(dataset: Any) -> int | None:
    """Returns how many outputs a model needs for a dataset: one per class; without names, up to the largest label.

    Raises:
        DataError: most of the outputs would have no rows, because labels are not numbered from 0.
    """
    if not isinstance(dataset, ClassyDataset) or dataset.num_classes is not None:
        return getattr(dataset, "num_classes", None)
    labels = class_indices(dataset)
    if labels is None:
        return None
    used = np.unique(labels[labels >= 0])
    outputs = int(used[-1]) + 1 if len(used) else 0
    if outputs > _MOST_OUTPUTS_PER_LABEL * len(used) + _SPARE_OUTPUTS:
        raise DataError(
            f"the dataset has {len(used):,} different labels from {used[0]} to {used[-1]}, which as class "
            f"indices need {outputs:,} outputs: number the classes from 0; or list the labels as names of classes "
            f"(`classes: {yaml_list([str(label) for label in used])}`); or set the head's num_classes to {outputs} "
            f"if they are indices of that many classes"
        )
    return outputs or None


def label_note(dataset: Any, outputs: int | None) -> str | None:
    """Describes the labels of a dataset against a model's outputs: "10 labels (1 to 10), 11 outputs; no row of 0".

    Args:
        dataset: any.
        outputs: of the model per sample; None if they are not known.
    """
    labels = class_indices(dataset) if isinstance(dataset, ClassyDataset) else None
    if labels is None:
        return None
    names, used = class_names(dataset), np.unique(labels[labels >= 0])
    number = outputs or (len(names) if names else None)
    text = f"{len(used):,} {'label' if len(used) == 1 else 'labels'}"
    if names is None and len(used):
        text += f" ({used[0]} to {used[-1]})"
    if outputs is not None:
        text += f", {outputs:,} {'output' if outputs == 1 else 'outputs'}"
    if number is not None and len(used) < number:
        lacking = np.setdiff1d(np.arange(min(number, len(used) + 6)), used)[:6].tolist()
        named = [names[index] if names and index < len(names) else index for index in lacking]
        text += f"; no row of {few(named)}"
    ignored = len(labels) - int((labels >= 0).sum())
    if ignored:
        text += f"; {ignored:,} rows without a class ({few(np.unique(labels[labels < 0]).tolist())})"
    pairs = alike(names or [])
    if pairs:
        text += "; names that differ in case only: " + few([f"{a} and {b}" for a, b in pairs])
    return text


def data_notes(phase_type: str, dataset: Any, outputs: int | None) -> list[str]:
    """Returns lines about a dataset for `check` and the log: its remarks, and its labels (see `label_note`)."""
    notes = [f"{phase_type}: {remark}" for remark in getattr(dataset, "remarks", ())]
    split = getattr(dataset, "split_rows", None)
    if isinstance(split, SplitRows):
        notes.append(f"{phase_type} split: {split.remark(dataset)}")
    sampling = getattr(dataset, "sampling", None) if phase_type == "train" else None
    if isinstance(sampling, ClassySampling):
        notes.append(f"{phase_type} sampling: {sampling.remark(dataset)}")
    labels = label_note(dataset, outputs)
    return notes if labels is None else [*notes, f"{phase_type} labels: {labels}"]
