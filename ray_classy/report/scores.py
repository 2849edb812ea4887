"""Evaluates the model of a run on its test rows, or on a part of them, for a report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ray_classy.dataset import ClassyDataset
from ray_classy.errors import ComponentError
from ray_classy.inference.evaluated_rows import evaluate_rows
from ray_classy.inference.evaluation import (
    Evaluation,
    classifier_with,
    config_for,
    dataset_for,
    evaluation_of,
)
from ray_classy.inference.pace import seldom
from ray_classy.inference.trained import Trained

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """An evaluated model.

    Attributes:
        trained: the checkpoint.
        evaluation: of the rows.
        dataset: has the rows by the numbers of the evaluation.
        rows: how many rows the test dataset has.
        parameters: of the model.
    """

    trained: Trained
    evaluation: Evaluation
    dataset: ClassyDataset = field(repr=False)
    rows: int
    parameters: int

    @property
    def part(self) -> bool:
        """Whether only a part of the rows was evaluated."""
        return len(self.evaluation.names) < self.rows


def score(trained: Trained, most_rows: int, batch_size: int = 32) -> Scored:
    """Evaluates a checkpoint on the test rows of its run, each once.

    Args:
        trained: the checkpoint.
        most_rows: of more rows, so many are drawn at random, always the same.
        batch_size: rows that the model takes at once.

    Raises:
        RayClassyError: there are no test rows, or they cannot be read; the message says why.
    """
    config: Mapping[str, Any] = config_for(trained)
    model = classifier_with(trained, flip=False)
    dataset = dataset_for(config, model)
    rows = len(dataset)
    if rows > most_rows:
        drawn = np.random.default_rng(model.preprocessing.seed).choice(rows, most_rows, replace=False)
        _keep(dataset, np.sort(drawn).astype(np.int64))
    on_progress = seldom(lambda line: _log.info("%s", line))
    evaluation = evaluation_of(model, dataset, evaluate_rows(model, dataset, batch_size, on_progress=on_progress))
    parameters = sum(one.numel() for one in model.model.parameters())
    return Scored(trained, evaluation, dataset, rows, parameters)


def _keep(dataset: ClassyDataset, numbers: np.ndarray) -> None:
    try:
        dataset.keep_rows(numbers)
        dataset.num_samples = None
    except ComponentError:  # rows that are read front to back: all of them
        _log.info("the test rows are read front to back, so all of them are evaluated")
