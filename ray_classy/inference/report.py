"""What an evaluation says of a model: accuracy with intervals, classes, confusions, calibration.

Everything is computed from the labels and probabilities of all rows at once, so it does not depend on how many
processes evaluated them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_classy.inference.evaluated_rows import EvaluatedRows

BINS = 15
"""Of equal width, for the calibration error (Guo et al., "On calibration of modern neural networks", 2017)."""
RESAMPLES = 1000
"""Bootstrap samples of an interval (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13)."""
_BLOCK = 100
_Z = 1.959964
"""The 97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        classes: names in the order of the model's outputs.
        confusion: rows of each class (first index) that were predicted as each (second index).
        top_k: the share of rows whose class is among the k best, by k.
        loss: mean cross-entropy.
        calibration_error: expected difference of confidence and accuracy, in [0, 1].
        bins: of the calibration: mean confidence, accuracy and number of the rows in each.
        intervals: 95 % intervals of `accuracy`, see `interval_of_share`, and of `macro_f1`: the 2.5th and 97.5th
            percentile over bootstrap samples.
        bad: rows that could not be decoded.
        unlabelled: rows without a label, which do not count.
    """

    classes: list[str]
    confusion: np.ndarray
    top_k: dict[int, float]
    loss: float
    calibration_error: float
    bins: list[tuple[float, float, int]]
    intervals: dict[str, tuple[float, float]]
    bad: int
    unlabelled: int = 0

    @property
    def rows(self) -> int:
        """The number of evaluated rows."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of rows that were predicted right."""
        return float(np.trace(self.confusion) / self.rows)

    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 (0 where they are not defined) and support of each class."""
        precision, recall, f1 = _scores(self.confusion)
        support = self.confusion.sum(axis=1)
        return [
            {
                "class": name,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(self.classes)
        ]

    def averages(self) -> dict[str, dict[str, float]]:
        """Means of the scores of the classes that have rows: of all alike ("macro"), and by their support."""
        scores = np.stack(_scores(self.confusion))
        support = self.confusion.sum(axis=1)
        there = support > 0
        names = ("precision", "recall", "f1")
        return {
            "macro": dict(zip(names, scores[:, there].mean(axis=1).tolist(), strict=True)),
            "weighted": dict(zip(names, (scores @ (support / support.sum())).tolist(), strict=True)),
        }

    def confused(self, most: int) -> list[tuple[str, str, int]]:
        """The most frequent confusions: class, prediction, rows."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [divmod(int(at), len(self.classes)) for at in order]
        return [
            (self.classes[row], self.classes[column], int(wrong[row, column]))
            for row, column in pairs
            if wrong[row, column]
        ]

    def data(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad,
            **({"unlabelled_rows": self.unlabelled} if self.unlabelled else {}),
            "accuracy": self.accuracy,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            **{f"top_{k}": value for k, value in self.top_k.items()},
            "loss": self.loss,
            "averages": self.averages(),
            "calibration_error": self.calibration_error,
            "calibration": [{"confidence": c, "accuracy": a, "rows": n} for c, a, n in self.bins],
            "classes": self.per_class(),
            "confusion_matrix": self.confusion.tolist(),
        }


def report_of(rows: EvaluatedRows, classes: list[str], seed: int = 0) -> Report:
    """Makes the report of evaluated rows, of which at least one has a label.

    Args:
        rows: all rows.
        classes: names in the order of the model's outputs.
        seed: of the bootstrap samples.
    """
    count, kept = len(classes), rows.labelled
    predicted, label, scores = rows.prediction[kept], rows.label[kept], rows.scores[kept]
    confusion = np.bincount(label * count + predicted, minlength=count * count).reshape(count, count)
    right = scores[np.arange(len(label)), label]
    better = (scores > right[:, None]).sum(axis=1)
    error, bins = _calibration(scores.max(axis=1), predicted == label)
    return Report(
        classes=classes,
        confusion=confusion,
        top_k={k: float((better < k).mean()) for k in (5,) if k < count},
        loss=float(rows.losses[kept].mean()),
        calibration_error=error,
        bins=bins,
        intervals={
            "accuracy": interval_of_share(int(np.trace(confusion)), len(label)),
            **_intervals(confusion, seed),
        },
        bad=rows.bad,
        unlabelled=int(len(kept) - kept.sum()),
    )


def _scores(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of the classes, for one matrix of confusions or several."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    predicted, support = confusion.sum(axis=-2), confusion.sum(axis=-1)
    return ratio(right, predicted), ratio(right, support), ratio(2 * right, predicted + support)


def ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Divides arrays; by 0, the result is 0."""
    return np.divide(one, other, out=np.zeros_like(one), where=other > 0)


def _calibration(confidence: np.ndarray, right: np.ndarray) -> tuple[float, list[tuple[float, float, int]]]:
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(number, minlength=BINS)
    confidences = np.bincount(number, weights=confidence, minlength=BINS)
    rights = np.bincount(number, weights=right, minlength=BINS)
    error = float(np.abs(confidences - rights).sum() / len(right))
    filled = np.flatnonzero(counts)
    return error, [(float(confidences[b] / counts[b]), float(rights[b] / counts[b]), int(counts[b])) for b in filled]


def _intervals(confusion: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    """Intervals by bootstrap over rows.

    Drawing rows with replacement draws the cells of the confusion matrix from a multinomial distribution.
    """
    count = len(confusion)
    cells = np.flatnonzero(confusion)
    rows, columns = np.divmod(cells, count)
    there = confusion.sum(axis=1) > 0

    def macro_f1(drawn: np.ndarray) -> np.ndarray:
        right = _summed(drawn * (rows == columns), rows, count)
        both = _summed(drawn, rows, count) + _summed(drawn, columns, count)
        return ratio(2 * right, both)[:, there].mean(axis=1)

    return resampled(confusion.ravel()[cells], seed, {"macro_f1": macro_f1})


def interval_of_share(right: int, rows: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share of rows (Wilson 1927); it has a width even if all are right.

    Args:
        right: how many rows are.
        rows: how many there are, at least 1.
    """
    share, part = right / rows, _Z**2 / rows
    half = _Z * math.sqrt(share * (1 - share) / rows + part / (4 * rows))
    low, high = ((share + part / 2 + sign * half) / (1 + part) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def resampled(
    counts: np.ndarray, seed: int, figures: Mapping[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[str, tuple[float, float]]:
    """Returns 95 % intervals of figures by bootstrap over rows.

    Args:
        counts: rows of each kind, shape (kinds,); rows of one kind count alike.
        seed: of the samples.
        figures: return the values, shape (samples,), for drawn counts, shape (samples, kinds).
    """
    generator = np.random.default_rng(seed)
    total, shares = int(counts.sum()), counts / counts.sum()
    found: dict[str, list[np.ndarray]] = {name: [] for name in figures}
    for _ in range(RESAMPLES // _BLOCK):
        drawn = generator.multinomial(total, shares, size=_BLOCK).astype(float)
        for name, figure in figures.items():
            found[name].append(figure(drawn))
    return {name: _middle(samples) for name, samples in found.items()}


def _summed(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Sums the columns of values, shape (samples, cells), by group, to shape (samples, groups)."""
    sums = np.zeros((count, len(values)))
    np.add.at(sums, groups, values.T)
    return sums.T


def _middle(samples: list[np.ndarray]) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate(samples), (2.5, 97.5)).tolist()
    return low, high
