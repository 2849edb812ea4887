"""The rows of a dataset, each evaluated once by a trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.class_match import class_map
from ray_classy.dataset.loader import PhaseLoader
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.errors import DataError
from ray_classy.inference.classifier import Classifier


@dataclass(frozen=True)
class EvaluatedRows:
    """What a model says of labelled rows, in the order of their numbers.

    Attributes:
        number: of each row in its dataset, int64.
        label: its class, int64.
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
    def loss(self) -> np.ndarray:
        """The cross-entropy of each row."""
        right = self.scores[np.arange(len(self)), self.label].astype(np.float64)
        return -np.log(np.maximum(right, np.finfo(np.float64).tiny))

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


def match_to_model(dataset: ClassyDataset, classes: Sequence[str] | None) -> None:
    """Gives the rows of a dataset the targets that the classes of the same names have in a model.

    Raises:
        DataError: the dataset has classes that the model does not know, or labels that nothing names.
    """
    names, labels = dataset.own_classes()
    known = None if classes is None else list(classes)
    if names is None and labels is None:
        return
    try:
        targets = class_map(names, known, labels, ("in the model", "in the data"))
    except DataError as error:
        raise DataError(f"the data does not have the model's classes: {error}") from None
    if not dataset.map_targets(targets, known) and any(new != old for old, new in targets.items()):
        raise DataError("the data has the model's classes in another order, and its targets cannot be mapped")


def evaluate_rows(
    model: Classifier, dataset: ClassyDataset, batch_size: int, rank: int = 0, world_size: int = 1
) -> EvaluatedRows:
    """Evaluates this rank's piece of a dataset's rows; the pieces of all ranks together are all rows, each once.

    Args:
        model: the model.
        dataset: with the model's targets (`match_to_model`).
        batch_size: rows that the model takes at once.
        rank, world_size: which piece.

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
    numbers, labels, scores = [], [], []
    batches = iter(loader)
    planned = plan.batches()
    for batch in batches:
        if not isinstance(batch, Mapping) or "target" not in batch:
            raise DataError(dataset.without_targets or "the rows have no `target`: evaluate needs labels")
        numbers.append(batch["row"].cpu().numpy() if "row" in batch else next(planned))
        labels.append(_labels(batch["target"]))
        scores.append(model.probabilities(batch["input"]).cpu().numpy())
    if not scores:
        none = np.zeros(0, np.int64)
        return EvaluatedRows(none, none, np.zeros((0, len(model.classes or ())), np.float32), batches.bad_rows)
    found = EvaluatedRows(np.concatenate(numbers), np.concatenate(labels), np.concatenate(scores), batches.bad_rows)
    _check_labels(found, model)
    return found


@dataclass(frozen=True)
class _Numbered:
    """Decodes rows, and adds their numbers to the samples."""

    decode: Callable[[dict[str, Any]], Any]

    def __call__(self, row: dict[str, Any]) -> Any:
        sample = self.decode(row)
        return {**sample, "row": row["_number"]} if isinstance(sample, dict) else sample


def _labels(target: Any) -> np.ndarray:
    if not isinstance(target, torch.Tensor) or target.ndim != 1 or target.is_floating_point():
        raise DataError(
            "evaluate compares one class per row with the predictions; for other targets, evaluate with the run's own "
            "meters: ray-classy train CONFIG test_only=true --checkpoint RUN"
        )
    return target.cpu().numpy()


def _check_labels(rows: EvaluatedRows, model: Classifier) -> None:
    wrong = (rows.label < 0) | (rows.label >= rows.scores.shape[1])
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"row {rows.number[at]} has the label {rows.label[at]}, and the model has {rows.scores.shape[1]} classes"
        )
