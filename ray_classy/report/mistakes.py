"""What the page shows of a model's answers: scores, confusions and their pictures, calibration, confident mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.errors import RayClassyError
from ray_classy.inference.evaluation import TargetEvaluation
from ray_classy.inference.outputs import THRESHOLD
from ray_classy.inference.report import BINS, Report
from ray_classy.report.figures import COLOURS, GREY, Figure, axis
from ray_classy.report.pictures import Album
from ray_classy.report.scores import Scored
from ray_classy.report.words import percent, shortened

MOST_CLASSES_OF_A_MATRIX = 50
MOST_PAIRS = 50
_PER_CELL, _PER_RIGHT_CELL, _SUSPICIOUS = 12, 4, 24
"""Pictures of a confusion, of a class that was recognized, and of confident mistakes."""
_MOST_LABELS = 4


def target_data(scored: Scored, target: str, album: Album) -> dict[str, Any]:
    """Returns the answers for one target as the page's script takes them.

    Args:
        scored: the evaluation.
        target: its name; "" for the only one.
        album: gets the pictures.
    """
    one = scored.evaluation.targets[target]
    pictures = _Pictures(scored, one, album)
    report = one.report
    data: dict[str, Any] = {
        "target": target,
        "classes": [shortened(name) for name in one.classes],
        "per_class": report.per_class(),
        "suspicious": pictures.of(suspicious_rows(one)),
    }
    if isinstance(report, Report):
        small = len(one.classes) <= MOST_CLASSES_OF_A_MATRIX
        pairs = confused_pairs(report.confusion)
        cells = [*pairs, *((at, at) for at in range(len(one.classes)))] if small else pairs
        data["cells"] = [
            {"true": true, "predicted": predicted, "rows": int(report.confusion[true, predicted])}
            for true, predicted in cells
            if report.confusion[true, predicted]
        ]
        for cell in data["cells"]:  # the most frequent confusions first, as long as there is room
            most = _PER_RIGHT_CELL if cell["true"] == cell["predicted"] else _PER_CELL
            cell["pictures"] = pictures.of(rows_of_cell(one, cell["true"], cell["predicted"], most))
        data["matrix"] = small
        data["support"] = report.confusion.sum(axis=1).tolist()
    return data


def confused_pairs(confusion: np.ndarray, most: int | None = None) -> list[tuple[int, int]]:
    """Returns the pairs of different classes (true, predicted) that were confused, the most frequent first.

    Args:
        confusion: rows of each class (first index) that were predicted as each.
        most: how many; None for all of a small matrix, and for `MOST_PAIRS` of a large one.
    """
    if most is None:
        most = confusion.size if len(confusion) <= MOST_CLASSES_OF_A_MATRIX else MOST_PAIRS
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(most, int((wrong > 0).sum()))]
    return [(int(true), int(predicted)) for true, predicted in (divmod(int(at), len(wrong)) for at in order)]


def rows_of_cell(one: TargetEvaluation, true: int, predicted: int, most: int) -> list[int]:
    """Returns the places, among the evaluated rows, of those of a class that were predicted as another one."""
    rows = one.rows
    at = np.flatnonzero((rows.label == true) & (rows.prediction == predicted))
    sure = rows.scores[at, predicted]
    return at[np.argsort(-sure, kind="stable")[:most]].tolist()


def suspicious_rows(one: TargetEvaluation, most: int = _SUSPICIOUS) -> list[int]:
    """Returns the places of wrong answers, the most confident first; with several labels, of the largest losses."""
    rows = one.rows
    if rows.label.ndim > 1:
        wrong = ((rows.scores > THRESHOLD) != (rows.label == 1)) & (rows.label >= 0)
        at = np.flatnonzero(wrong.any(axis=1))
        return at[np.argsort(-rows.losses[at], kind="stable")[:most]].tolist()
    at = np.flatnonzero((rows.label >= 0) & (rows.label != rows.prediction))
    sure = rows.scores[at].max(axis=1) if len(at) else np.zeros(0)
    return at[np.argsort(-sure, kind="stable")[:most]].tolist()


def calibration_figures(report: Report) -> list[Figure]:
    """How often the model is right, by how sure it is; and how often it is how sure."""
    x = [confidence for confidence, _, _ in report.bins]
    y = [accuracy for _, accuracy, _ in report.bins]
    counts = [rows for _, _, rows in report.bins]
    largest = max(counts)
    sizes = [8 + 26 * (rows / largest) ** 0.5 for rows in counts]
    ideal = {"x": [0, 1], "y": [0, 1], "mode": "lines", "name": "ideal", "line": {"color": GREY, "dash": "dot"}}
    found = {
        "x": x,
        "y": y,
        "mode": "lines+markers",
        "name": "this model",
        "line": {"color": COLOURS[0], "width": 2},
        "marker": {"size": sizes, "opacity": 0.75, "line": {"width": 0}},
        "text": [f"{rows:,} images" for rows in counts],
        "cliponaxis": False,
        "hovertemplate": "sure: %{x:.0%}<br>right: %{y:.0%}<br>%{text}<extra></extra>",
    }
    words = (
        f"If the model says it is 80 % sure, it should be right 8 times of 10: on the dotted line. Below it, the model "
        f"is too sure of itself. On average, confidence and accuracy are {percent(report.calibration_error)} apart "
        f"(expected calibration error); larger dots stand for more images."
    )
    share = {"range": [-0.03, 1.05], "tickformat": ".0%"}
    layout = {"xaxis": axis("how sure the model is", **share), "yaxis": axis("how often it is right", **share)}
    return [
        _confidences(report),
        Figure("Calibration", words, [{"type": "scatter", **one} for one in (ideal, found)], layout, height=360),
    ]


def _confidences(report: Report) -> Figure:
    x = [(min(int(confidence * BINS), BINS - 1) + 0.5) / BINS for confidence, _, _ in report.bins]
    right = [round(accuracy * rows) for _, accuracy, rows in report.bins]
    wrong = [rows - one for (_, _, rows), one in zip(report.bins, right, strict=True)]
    traces = [
        {"type": "bar", "x": x, "y": y, "width": 0.9 / BINS, "name": name, "marker": {"color": colour}}
        for name, y, colour in (("right", right, COLOURS[0]), ("wrong", wrong, "#d1453b"))
    ]
    words = "How sure the model is of its answers. Wrong answers should be on the left, where it is unsure and says so."
    layout = {
        "xaxis": axis("how sure the model is", range=[0, 1.05], tickformat=".0%"),
        "yaxis": axis("test rows"),
        "barmode": "stack",
    }
    return Figure("How sure it is", words, traces, layout, height=360)


class _Pictures:
    """Adds evaluated rows to an album, each once.

    Args:
        scored: the evaluation.
        one: that of the target.
        album: gets the pictures.
    """

    def __init__(self, scored: Scored, one: TargetEvaluation, album: Album) -> None:
        self._scored, self._one, self._album = scored, one, album
        self._known: dict[int, int | None] = {}

    def of(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Returns captions of evaluated rows, with the number of the picture where there is one."""
        return list(map(self._captioned, places))

    def _captioned(self, place: int) -> dict[str, Any]:
        if place not in self._known:
            self._known[place] = self._album.add(raw_input(self._scored, place))
        rows, classes = self._one.rows, self._one.classes
        caption: dict[str, Any] = {"picture": self._known[place], "name": self._scored.evaluation.names[place][-200:]}
        if rows.label.ndim > 1:
            said = np.flatnonzero(rows.scores[place] > THRESHOLD)
            said = said[np.argsort(-rows.scores[place, said], kind="stable")]
            labelled = np.flatnonzero(rows.label[place] == 1)
            caption["label"] = ", ".join(_names(classes, labelled)) or "nothing"
            caption["said"] = ", ".join(_names(classes, said, rows.scores[place])) or "nothing"
            return caption
        predicted = int(rows.prediction[place])
        caption["label"] = shortened(classes[int(rows.label[place])])
        caption["right"] = predicted == int(rows.label[place])
        caption["said"] = f"{shortened(classes[predicted])}, {percent(float(rows.scores[place, predicted]))} sure"
        return caption


def _names(classes: Sequence[str], numbers: np.ndarray, scores: np.ndarray | None = None) -> Iterator[str]:
    for number in numbers[:_MOST_LABELS].tolist():
        yield shortened(classes[number]) + ("" if scores is None else f" ({percent(float(scores[number]))})")
    if len(numbers) > _MOST_LABELS:
        yield f"and {len(numbers) - _MOST_LABELS} more"


def raw_input(scored: Scored, place: int) -> Any:
    """Returns the image of an evaluated row before it is transformed; None if it cannot be read alone."""
    number = int(scored.evaluation.only.rows.number[place])
    base = row_dataset_of(scored.dataset)
    if base is not None and not base.rows.random_access:
        return None
    try:
        sample = scored.dataset.dataset[number] if base is None else base[number]
    except (RayClassyError, OSError, LookupError):
        return None
    if isinstance(sample, tuple | list) and sample:
        return sample[0]
    return sample.get("input") if isinstance(sample, dict) else None
