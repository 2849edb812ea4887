"""What the outputs of a model mean: classes, their probabilities, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import CheckpointError

THRESHOLD = 0.5
"""The probability above which a class is one of the labels of a row."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        label: the class with the highest score.
        score: its probability, in [0, 1].
        top: the classes with the highest scores, each with its own, from the highest on.
        labels: the classes whose scores are above the threshold, likewise, of a model that gives each class its own
            probability; None where the probabilities of all classes add up to 1.
    """

    label: str
    score: float
    top: list[tuple[str, float]]
    labels: list[tuple[str, float]] | None = None


@dataclass(frozen=True)
class Output:
    """One output of a model.

    Attributes:
        classes: names in the order of the output's columns; None numbers them.
        activation: makes probabilities of the output: "softmax", or "sigmoid" for each class by itself.
    """

    classes: list[str] | None = None
    activation: Literal["softmax", "sigmoid"] = "softmax"

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, or none: each class has a probability of its own."""
        return self.activation == "sigmoid"

    def probabilities(self, values: Any) -> torch.Tensor:
        """Returns the probabilities for the values of the output, shape (images, classes), float32.

        Raises:
            CheckpointError: they are of another form.
        """
        if not isinstance(values, torch.Tensor) or values.ndim != 2:
            what = f"a {type(values).__name__}" if not isinstance(values, torch.Tensor) else f"{tuple(values.shape)}"
            raise CheckpointError(f"the model returns {what}; predictions need scores of shape (images, classes)")
        if self.classes is not None and values.shape[1] != len(self.classes):
            raise CheckpointError(f"the model has {values.shape[1]} outputs, and there are {len(self.classes)} classes")
        return values.float().sigmoid() if self.several else values.float().softmax(dim=1)

    def predictions(self, scores: torch.Tensor, topk: int, threshold: float = THRESHOLD) -> list[Prediction]:
        """Returns the predictions for probabilities of shape (images, classes).

        Args:
            scores: the probabilities.
            topk: classes of each image; no more than there are.
            threshold: the probability above which a class is one of an image's labels.
        """
        values, indices = scores.topk(min(topk, scores.shape[1]), dim=1)
        above = self._above(scores, threshold) if self.several else [None] * len(scores)
        found = []
        for numbers, tops, labels in zip(indices.tolist(), values.tolist(), above, strict=True):
            named = [(self.name_of(number), value) for number, value in zip(numbers, tops, strict=True)]
            found.append(Prediction(*named[0], named, labels))
        return found

    def _above(self, scores: torch.Tensor, threshold: float) -> list[Any]:
        """Returns the classes above the threshold of each image with their scores, from the highest on."""
        values, indices = scores.sort(dim=1, descending=True, stable=True)
        counts = (values > threshold).sum(dim=1).tolist()
        most = max(counts, default=0)
        return [
            [(self.name_of(number), value) for number, value in zip(numbers[:count], row[:count], strict=True)]
            for numbers, row, count in zip(indices[:, :most].tolist(), values[:, :most].tolist(), counts, strict=True)
        ]

    def name_of(self, number: int) -> str:
        """Returns the name of a class."""
        return str(number) if self.classes is None else self.classes[number]


def by_target(values: Any, targets: Mapping[str, Output]) -> dict[str, Any]:
    """Returns what a model returns by target; the only one has the name `ONLY`.

    Raises:
        CheckpointError: the model does not have an output for each target.
    """
    if ONLY in targets:
        return {ONLY: values}
    if not isinstance(values, Mapping) or any(name not in values for name in targets):
        there = ", ".join(values) if isinstance(values, Mapping) else f"a {type(values).__name__}"
        raise CheckpointError(f"the model returns {there}, and was trained on the targets {', '.join(targets)}")
    return {name: values[name] for name in targets}
