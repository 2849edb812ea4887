"""The rows of a dataset, each evaluated once by a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.class_match import class_map
from ray_classy.dataset.labels import IGNORED
from ray_classy.dataset.loader import PhaseLoader
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.dataset.target_columns import ONLY, UNLABELLED, IndexColumn
from ray_classy.errors import DataError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.outputs import Output
from ray_classy.inference.pace import OnProgress, Pace, ignore


@dataclass(frozen=True)
class EvaluatedRows:
    """What a model says of labelled rows, in the order of their numbers.

    Attributes:
        number: of each row in its dataset, int64.
        label: its class, int64, negative where it has none; or, with several labels, 1, 0 or negative (not known) for
            each class, int8, shape (rows, classes).
        scores: probabilities, shape (rows, classes), float32.
        bad: rows that could not be decoded.
    """

    number: np.ndarray
    label: np.ndarray
    scores: np.ndarray
    bad: int = 0

    def __len__(self) -> int:
        return len(self.number)

    @property
    def prediction(self) -> np.ndarray:
        """The class with the highest score of each row."""
        return self.scores.argmax(axis=1)

    @property
    def labelled(self) -> np.ndarray:
        """Whether each row has a label; with several labels, whether one of its entries is known."""
        known = self.label >= 0
        return np.any(known.reshape(len(known), -1), axis=1, keepdims=True)[:, 0]

    @property
    def losses(self) -> np.ndarray:
        """The cross-entropy of each row, NaN without a label; with several, the sum of its binary cross-entropies."""
        tiny = np.finfo(np.float64).tiny
        scores = self.scores.astype(np.float64)
        if self.label.ndim == 1:
            right = scores[np.arange(len(self)), np.maximum(self.label, 0)]
            return np.where(self.label >= 0, -np.log(np.maximum(right, tiny)), np.nan)
        right = np.where(self.label == 1, scores, 1 - scores)
        return np.where(self.label >= 0, -np.log(np.maximum(right, tiny)), 0.0).sum(axis=1)

    @classmethod
    def together(cls, parts: Sequence[EvaluatedRows]) -> EvaluatedRows:
        """Puts the rows of several processes together."""
        numbers = np.concatenate([part.number for part in parts])
        order = np.argsort(numbers, kind="stable")
        return cls(
            numbers[order],
            np.concatenate([part.label for part in parts])[order],
            np.concatenate([part.scores for part in parts])[order],
            sum(part.bad for part in parts),
        )


def match_to_model(dataset: ClassyDataset, outputs: Mapping[str, Output]) -> None:
    """Gives the rows of a dataset the targets that the classes of the same names have in a model.

    Raises:
        DataError: the dataset lacks a target of the model, has classes that the model does not know, or labels that
            nothing names.
    """
    columns = dataset.target_columns(own=True)
    for target, output in outputs.items():
        if target == ONLY:
            names, labels = dataset.own_classes()
        elif target in columns:
            column = columns[target]
            names, labels = column.classes, column.targets if isinstance(column, IndexColumn) else None
        else:
            there = ", ".join(name for name in columns if name != ONLY) or "none"
            raise DataError(
                f"the model was trained on the targets {', '.join(outputs)}, and the data has {there}: name the "
                f"columns of all of them in `targets`"
            )
        _match(dataset, target, output.classes, names, labels)


def _match(
    dataset: ClassyDataset, target: str, known: list[str] | None, names: Sequence[str] | None, labels: np.ndarray | None
) -> None:
    if names is None and labels is None:
        return
    try:
        targets = class_map(names, known, labels, ("in the model", "in the data"))
    except DataError as error:
        what = f" of the target {target!r}" if target != ONLY else ""
        raise DataError(f"the data does not have the model's classes{what}: {error}") from None
    mapped = dataset.map_targets(targets, known) if target == ONLY else dataset.map_targets(targets, known, target)
    if not mapped and any(new != old for old, new in targets.items()):
        raise DataError("the data has the model's classes in another order, and its targets cannot be mapped")


def evaluate_rows(
    model: Classifier,
    dataset: ClassyDataset,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    on_progress: OnProgress = ignore,
) -> dict[str, EvaluatedRows]:
    """Evaluates this rank's piece of a dataset's rows; the pieces of all ranks together are all rows, each once.

    Args:
        model: the model.
        dataset: with the model's targets (`match_to_model`).
        batch_size: rows that the model takes at once.
        rank, world_size: which piece.
        on_progress: gets a line on the progress after each batch.

    Returns:
        The rows by target; the only target has the name "".

    Raises:
        DataError: rows have no labels, or labels that are no class of the model.
    """
    plan = PhasePlan(
        num_rows=len(dataset), batch_size=batch_size, world_size=world_size, rank=rank, seed=model.preprocessing.seed
    )
    loader = PhaseLoader(dataset, plan)
    loader.device = model.device
    base = row_dataset_of(dataset)
    if base is not None:
        base.decode = _Numbered(base.decode)
    numbers: list[np.ndarray] = []
    labels: dict[str, list[np.ndarray]] = {target: [] for target in model.outputs}
    scores: dict[str, list[np.ndarray]] = {target: [] for target in model.outputs}
    batches = iter(loader)
    planned = plan.batches()
    pace, done = Pace(len(dataset) // world_size, on_progress, "rows"), 0
    for batch in batches:
        if not isinstance(batch, Mapping) or "target" not in batch:
            raise DataError(dataset.without_targets or "the rows have no `target`: evaluate needs labels")
        numbers.append(batch["row"].cpu().numpy() if "row" in batch else next(planned))
        targets = _targets(batch["target"], model.outputs)
        for target, one in model.probabilities_by_target(batch["input"]).items():
            scores[target].append(one.cpu().numpy())
            labels[target].append(_labels(targets[target], tuple(one.shape)))
        done += len(numbers[-1])
        pace.reach(done + batches.bad_rows)
    if not numbers:
        none = np.zeros(0, np.int64)
        nothing = {name: np.zeros((0, len(output.classes or ())), np.float32) for name, output in model.outputs.items()}
        return {target: EvaluatedRows(none, none, one, batches.bad_rows) for target, one in nothing.items()}
    every = np.concatenate(numbers)
    found = {
        target: EvaluatedRows(every, np.concatenate(labels[target]), np.concatenate(one), batches.bad_rows)
        for target, one in scores.items()
    }
    for rows in found.values():
        _check_labels(rows)
    return found


def together(pieces: Sequence[Mapping[str, EvaluatedRows]]) -> dict[str, EvaluatedRows]:
    """Puts what several processes have evaluated together, by target."""
    there = [piece for piece in pieces if any(len(rows) for rows in piece.values())] or pieces[:1]
    bad = sum(next(iter(piece.values())).bad for piece in pieces)
    return {
        target: dataclasses.replace(EvaluatedRows.together([piece[target] for piece in there]), bad=bad)
        for target in pieces[0]
    }


@dataclass(frozen=True)
class _Numbered:
    """Decodes rows, and adds their numbers to the samples."""

    decode: Callable[[dict[str, Any]], Any]

    def __call__(self, row: dict[str, Any]) -> Any:
        sample = self.decode(row)
        return {**sample, "row": row["_number"]} if isinstance(sample, dict) else sample


def _targets(target: Any, outputs: Mapping[str, Output]) -> Mapping[str, Any]:
    """Returns the targets of a batch by name; the only one has the name `ONLY`."""
    if (ONLY in outputs) == isinstance(target, Mapping):
        there = f"the targets {', '.join(target)}" if isinstance(target, Mapping) else "one target"
        raise DataError(f"the rows have {there}, and the model was trained on {', '.join(outputs) or 'one target'}")
    return target if isinstance(target, Mapping) else {ONLY: target}


def _labels(target: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns class indices, or 1, 0 and negative values of each class."""
    if isinstance(target, torch.Tensor):
        values = target.cpu().numpy()
        if values.ndim == 1 and not target.is_floating_point():
            return values
        if values.shape == shape and np.isin(values, (0, 1, UNLABELLED)).all():
            return values.astype(np.int8)
    raise DataError(
        "evaluate compares predictions with one class per row, or with 1 or 0 for each class; for other targets, "
        "evaluate with the run's own meters: ray-classy train CONFIG test_only=true --checkpoint RUN"
    )


def _check_labels(rows: EvaluatedRows) -> None:
    if rows.label.ndim > 1:
        return
    wrong = ((rows.label < 0) & ~np.isin(rows.label, IGNORED)) | (rows.label >= rows.scores.shape[1])
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"row {rows.number[at]} has the label {rows.label[at]}, and the model has {rows.scores.shape[1]} classes"
        )
