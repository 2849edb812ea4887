"""What an evaluation says of a model where a row may have several labels: F1, average precision, subset accuracy.

A class is predicted where its probability is above `THRESHOLD`. Everything is computed from all rows at once. Entries
and rows without a label do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_classy.inference.evaluated_rows import EvaluatedRows
from ray_classy.inference.outputs import THRESHOLD
from ray_classy.inference.report import interval_of_share, ratio, resampled


@dataclass(frozen=True)
class LabelsReport:
    """An evaluation of several labels per row.

    Attributes:
        classes: names in the order of the model's outputs.
        counts: true positives, false positives, false negatives of each class, shape (3, classes).
        average_precision: of each class, the area under its curve of precision and recall; NaN without a positive row.
        subset_accuracy: the share of rows all of whose classes are predicted right.
        loss: mean binary cross-entropy of the entries.
        intervals: 95 % intervals of `subset_accuracy` and `micro_f1`, see `Report`.
        rows: number of rows with a label.
        bad: rows that could not be decoded.
        unlabelled: rows without a label of this target.
    """

    classes: list[str]
    counts: np.ndarray
    average_precision: np.ndarray
    subset_accuracy: float
    loss: float
    intervals: dict[str, tuple[float, float]]
    rows: int
    bad: int
    unlabelled: int = 0

    @property
    def support(self) -> np.ndarray:
        """The number of rows that have each class."""
        return self.counts[0] + self.counts[2]

    @property
    def mean_average_precision(self) -> float:
        """The mean of the average precision of the classes that have rows (mAP); NaN if none has."""
        there = self.average_precision[~np.isnan(self.average_precision)]
        return float(there.mean()) if len(there) else float("nan")

    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 (0 where they are not defined), average precision and support of each class."""
        precision, recall, f1 = _scores(self.counts)
        return [
            {
                "class": name,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "average_precision": float(self.average_precision[index]),
                "support": int(self.support[index]),
            }
            for index, name in enumerate(self.classes)
        ]

    def averages(self) -> dict[str, dict[str, float]]:
        """The scores of all entries together ("micro"), and their means over classes: plain, and by support."""
        scores = np.stack(_scores(self.counts))
        shares = ratio(self.support.astype(float), np.full(len(self.classes), float(self.support.sum())))
        names = ("precision", "recall", "f1")
        return {
            "micro": dict(zip(names, np.stack(_scores(self.counts.sum(axis=1))).tolist(), strict=True)),
            "macro": dict(zip(names, scores.mean(axis=1).tolist(), strict=True)),
            "weighted": dict(zip(names, (scores @ shares).tolist(), strict=True)),
        }

    def data(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad,
            "unlabelled_rows": self.unlabelled,
            "threshold": THRESHOLD,
            "mean_average_precision": self.mean_average_precision,
            "subset_accuracy": self.subset_accuracy,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "loss": self.loss,
            "averages": self.averages(),
            "classes": self.per_class(),
        }


def labels_report_of(rows: EvaluatedRows, classes: list[str], seed: int = 0) -> LabelsReport:
    """Makes the report of evaluated rows with several labels, of which at least one is known.

    Args:
        rows: all rows.
        classes: names in the order of the model's outputs.
        seed: of the bootstrap samples.
    """
    kept = rows.labelled
    label, scores = rows.label[kept], rows.scores[kept]
    known, predicted, positive = label >= 0, scores > THRESHOLD, label == 1
    each = np.stack([predicted & positive, predicted & known & ~positive, ~predicted & positive])
    right = ((predicted == positive) | ~known).all(axis=1)
    losses = rows.losses[kept]
    return LabelsReport(
        classes=classes,
        counts=each.sum(axis=1),
        average_precision=np.array([_average_precision(scores[k, c], positive[k, c]) for c, k in enumerate(known.T)]),
        subset_accuracy=float(right.mean()),
        loss=float(losses.sum() / known.sum()),
        intervals={
            "subset_accuracy": interval_of_share(int(right.sum()), len(label)),
            **_intervals(each.sum(axis=2), seed),
        },
        rows=len(label),
        bad=rows.bad,
        unlabelled=int(len(kept) - kept.sum()),
    )


def _scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of true positives, false positives and false negatives, shape (3, ...)."""
    hits, wrong, missed = counts.astype(float)
    return ratio(hits, hits + wrong), ratio(hits, hits + missed), ratio(2 * hits, 2 * hits + wrong + missed)


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """The sum of the precisions at each threshold, weighted by the growth of recall; NaN without a positive row."""
    total = int(positive.sum())
    if not total:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of the rows with one score
    hits = positive[order].cumsum()[last]
    return float((np.diff(hits, prepend=0) / total * (hits / (last + 1))).sum())


def _intervals(each: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    """Intervals by bootstrap over rows, of which those with the same counts, shape (3, rows), are drawn together."""
    kinds, numbers = np.unique(each.T, axis=0, return_counts=True)
    return resampled(numbers, seed, {"micro_f1": lambda drawn: _scores((drawn @ kinds).T)[2]})
