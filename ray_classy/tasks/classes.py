"""The classes of a task's datasets: matched by name with each other and with a checkpoint's, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ray_classy.config.places import locate
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.class_match import alike, class_map, few, numbers_of, yaml_list
from ray_classy.dataset.known_classes import class_indices, class_names
from ray_classy.dataset.sampling import ClassySampling
from ray_classy.dataset.split import SplitRows
from ray_classy.dataset.target_columns import ONLY, IndexColumn, MultiHotColumn, TargetColumn
from ray_classy.errors import DataError
from ray_classy.tasks.class_weights import count_again

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
        whose labels are integers without names; `target_classes`, where rows have several targets: the names by phase
        type and target, None for integers without names.
    """
    kinds = {phase_type: _classes_of(dataset) for phase_type, dataset in datasets.items()}
    several = {phase_type: named_targets(dataset) for phase_type, dataset in datasets.items() if named_targets(dataset)}
    return {
        **({"target_classes": several_classes(several)} if several else {}),
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
    targets = {target: None for dataset in task.datasets.values() for target in named_targets(dataset)} or {ONLY: None}
    moved = False
    for target in targets:
        before = _recorded(content, target)
        for phase_type in ("train", "test"):
            known = before.get(phase_type) or before.get("train") or before.get("test")
            if task.datasets.get(phase_type) is not None and known is not None:
                those = f"the checkpoint{f' {where}' if where else ''} was trained on"
                moved |= _match(task, phase_type, target, known, those, "then", "now") and phase_type == "train"
        train = _classes_of(task.datasets.get("train"), target)
        if not before and train is not None and "test" in task.datasets:
            _match(task, "test", target, train, "the train dataset has", "in train", "in test")
    if moved:
        count_again(task)
    describe_classes(task)


def classes_of_heads(model: Any) -> int | dict[str, int] | None:
    """Returns the number of classes of a model's head, or by the names of several; None if they are not known."""
    heads = [head for heads in model.get_heads().values() for head in heads]
    known = {head.unique_id: head.num_classes for head in heads if head.num_classes is not None}
    return next(iter(known.values()), None) if len(heads) == 1 else known or None


def named_targets(dataset: Any) -> dict[str, TargetColumn]:
    """Returns the targets of a dataset by name, if its rows have several; otherwise nothing."""
    columns = dataset.target_columns() if isinstance(dataset, ClassyDataset) else {}
    return {} if ONLY in columns else columns


def several_classes(several: Mapping[str, Mapping[str, TargetColumn]]) -> dict[str, dict[str, list[str] | None]]:
    """Returns the classes by phase type and target."""
    return {kind: {name: one.classes for name, one in columns.items()} for kind, columns in several.items()}


def describe_classes(task: Any) -> None:
    """Tells the meters how many classes their targets have, by which names, and whether rows have several.

    The number is that of the head's outputs where it is known, the names are those of the train dataset before test.
    """
    heads = [head for heads in task.base_model.get_heads().values() for head in heads] if task.base_model else []
    datasets = [task.datasets[kind] for kind in ("train", "test") if kind in task.datasets]
    for meter in task.meters:
        if not hasattr(meter, "set_classes"):
            continue
        target = getattr(meter, "target", ONLY)
        head = next((head for head in heads if head.unique_id == target), heads[0] if len(heads) == 1 else None)
        number = getattr(head, "num_classes", None)
        if number is None and datasets:
            number = number_of_outputs(datasets[0], target)
        known = next((one for one in (_classes_of(dataset, target) for dataset in datasets) if one is not None), None)
        column = next((one[target] for one in map(_columns_of, datasets) if target in one), None)
        meter.set_classes(number, known.names if known is not None else None, isinstance(column, MultiHotColumn))


def _columns_of(dataset: Any) -> dict[str, TargetColumn]:
    return dataset.target_columns() if isinstance(dataset, ClassyDataset) else {}


def _recorded(content: Mapping[str, Any] | None, target: str = ONLY) -> dict[str, _Known]:
    """Returns what `recorded_classes` wrote into a checkpoint; nothing if it is of another form."""
    record = (content or {}).get("ray_classy")
    if target != ONLY:
        return _recorded_target(record.get("target_classes") if isinstance(record, Mapping) else None, target)
    names, unnamed = ((record if isinstance(record, Mapping) else {}).get(key) for key in ("classes", "unnamed_labels"))
    known: dict[str, _Known] = {}
    for phase_type in ("train", "test"):
        listed = names.get(phase_type) if isinstance(names, Mapping) else None
        if isinstance(listed, list | tuple) and listed and all(isinstance(name, str) for name in listed):
            known[phase_type] = _Known(list(listed))
        elif isinstance(unnamed, list) and phase_type in unnamed:
            known[phase_type] = _Known(None)
    return known


def _recorded_target(kinds: Any, target: str) -> dict[str, _Known]:
    known: dict[str, _Known] = {}
    for phase_type in ("train", "test"):
        of_phase = kinds.get(phase_type) if isinstance(kinds, Mapping) else None
        names = of_phase.get(target, ()) if isinstance(of_phase, Mapping) else ()
        if names is None or (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            known[phase_type] = _Known(names)
    return known


def _match(task: ClassyTask, phase_type: str, target: str, known: _Known, those: str, there: str, here: str) -> bool:
    """Gives a dataset the targets of known classes; returns whether they are other ones now."""
    dataset = task.datasets[phase_type]
    own = _classes_of(dataset, target, own=True)
    if own is None:
        return False
    if target != ONLY:
        return _match_target(task, phase_type, target, own, known, those, there, here)
    labels = dataset.own_classes()[1] if isinstance(dataset, ClassyDataset) else None
    try:
        by_target = class_map(own.names, known.names, labels, (there, here), whole=phase_type == "train")
        changed = any(target != other for target, other in by_target.items())
        if changed and not (isinstance(dataset, ClassyDataset) and dataset.map_targets(by_target, known.names)):
            class_map(own.names, known.names, labels, (there, here), whole=True)
            raise DataError(f"the order differs: {few(known.names or [])} {there}, {few(own.names or [])} {here}")
        if not changed and known.names != class_names(dataset) and isinstance(dataset, ClassyDataset):
            dataset.map_targets({}, known.names)
        return changed
    except DataError as error:
        raise DataError(
            f"{locate(task.built_from, 'dataset', phase_type)}"
            f"the {phase_type} dataset does not have the classes that {those}: "
            f"{error}. {_remedy(phase_type, own, known)}"
        ) from None


def _match_target(
    task: ClassyTask, phase_type: str, target: str, own: _Known, known: _Known, those: str, there: str, here: str
) -> bool:
    dataset = task.datasets[phase_type]
    column = dataset.target_columns(own=True)[target]
    labels = column.targets if isinstance(column, IndexColumn) else None
    try:
        by_target = class_map(own.names, known.names, labels, (there, here), whole=phase_type == "train")
    except DataError as error:
        raise DataError(
            f"{locate(task.built_from, 'dataset', phase_type)}"
            f"target {target!r} of the {phase_type} dataset does not have the "
            f"classes that {those}: {error}. List them in their order in targets.{target}.classes"
        ) from None
    moved = any(own_target != other for own_target, other in by_target.items())
    if moved or known.names != dataset.target_columns()[target].classes:
        dataset.map_targets(by_target, known.names, target)
    return moved


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


def _classes_of(dataset: Any, target: str = ONLY, own: bool = False) -> _Known | None:
    """Returns a dataset's classes as they are, or as they were before they were mapped; None if it knows neither."""
    if dataset is None:
        return None
    if target != ONLY:
        columns = dataset.target_columns(own=own) if isinstance(dataset, ClassyDataset) else {}
        return _Known(columns[target].classes) if target in columns else None
    if own and isinstance(dataset, ClassyDataset):
        names, labels = dataset.own_classes()
    else:
        names = class_names(dataset)
        labels = class_indices(dataset) if isinstance(dataset, ClassyDataset) else None
    return None if names is None and labels is None else _Known(names)


_MOST_OUTPUTS_PER_LABEL = 4
_SPARE_OUTPUTS = 10


def number_of_outputs(dataset: Any, target: str = ONLY) -> int | None:
    """Returns how many outputs a model needs for a dataset: one per class; without names, up to the largest label.

    Args:
        dataset: any.
        target: of several targets, the name of one.

    Raises:
        DataError: most of the outputs would have no rows, because labels are not numbered from 0.
    """
    several = named_targets(dataset)
    if several:
        return several[target].num_classes if target in several else None
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
    columns = _columns_of(dataset)
    if columns:
        return "; ".join(f"{name}: {_column_note(one)}" if name else _column_note(one) for name, one in columns.items())
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


def _column_note(column: TargetColumn) -> str:
    """Describes a target: "3 classes, 1.5 per row, 2 rows without one; no row of X"."""
    counts, _ = column.counts()
    text = f"{column.num_classes:,} classes"
    if isinstance(column, MultiHotColumn):
        rows = len(column.offsets) - 1
        text += f", {counts.sum() / max(rows - column.rows_unlabelled, 1):.3g} per row"
        empty, unlabelled = column.rows_without_a_class, column.rows_unlabelled
        text += f", {empty:,} rows without one" if empty else ""
    else:
        unlabelled = int((column.targets < 0).sum())
    lacking = np.flatnonzero(counts == 0)[:6].tolist()
    if lacking:
        text += f", no row of {few([column.classes[index] if column.classes else index for index in lacking])}"
    return text + (f", {unlabelled:,} rows not labelled" if unlabelled else "")


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
