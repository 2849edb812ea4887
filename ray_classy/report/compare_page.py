"""The page of several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import RayClassyError
from ray_classy.inference.report import Report
from ray_classy.inference.trained import Trained
from ray_classy.printable import printable
from ray_classy.report.curves import learning_figures
from ray_classy.report.figures import COLOURS, Figure, axis, escaped
from ray_classy.report.page import Page
from ray_classy.report.provenance import cost_of
from ray_classy.report.run_source import RunSource
from ray_classy.report.scores import Scored, score
from ray_classy.report.words import metric_name, number, percent, setting, shortened
from ray_classy.trainer.compared_runs import MISSING, differing, every, labels, read_compared

_MOST_CLASSES = 200


def compare_page(runs: Sequence[RunSource], read: Callable[[str], Trained], most_rows: int) -> Page:
    """Makes the page of several runs, each against the first.

    Args:
        runs: their records, at least two.
        read: reads the checkpoint of a run.
        most_rows: of each test dataset that are evaluated; 0 evaluates none.
    """
    page = Page("compare.html.j2", f"{len(runs)} runs side by side")
    compared = [read_compared(run.folder.path) for run in runs]
    names = [shortened(name, 40) for name in labels([run.row for run in runs])]
    scored = [_scored(page, name, run, read, most_rows) for name, run in zip(names, runs, strict=True)]
    metrics = every([one.best for one in compared])
    figures = [_results(names, scored)] if any(scored) else []
    page.context.update(
        runs=[
            {"name": name, "colour": COLOURS[at % len(COLOURS)], "row": run.row, "cost": dict(cost_of(run))}
            for at, (name, run) in enumerate(zip(names, runs, strict=True))
        ],
        results=[(metric_name(name), _against(values, _better(name))) for name, values in metrics.items()],
        accuracies=[_accuracy(one) for one in scored],
        classes=_classes(scored),
        config=_rows(differing([one.config for one in compared])),
        versions=_rows(differing([one.versions for one in compared])),
        figures=[page.figure(one) for one in figures if one.traces],
        learning=[page.figure(one) for one in learning_figures(runs)],
    )
    return page


def _scored(page: Page, name: str, run: RunSource, read: Callable[[str], Trained], most_rows: int) -> Scored | None:
    if not most_rows:
        return None
    try:
        return score(read(run.folder.path), most_rows)
    except (RayClassyError, OSError) as error:
        page.notes.append(f"{name} is not evaluated: {printable((str(error).splitlines() or [''])[0])}")
        return None


def _better(name: str) -> int:
    return -1 if name.endswith("loss") else 1


def _against(values: Sequence[Any], sign: int) -> list[dict[str, Any]]:
    """The cells of a metric: value, difference from the first run, and whether it is the best."""
    known = [value for value in values if value is not None]
    best = max(known, key=lambda value: sign * value) if len(set(known)) > 1 else None
    first = values[0]
    return [
        {
            "value": number(value),
            "difference": "" if at == 0 or None in (first, value) else f"{value - first:+.4f}",
            "best": value is not None and value == best,
        }
        for at, value in enumerate(values)
    ]


def _accuracy(scored: Scored | None) -> str:
    report = scored.evaluation.report if scored is not None else None
    if not isinstance(report, Report):
        return "–"
    low, high = report.intervals["accuracy"]
    return f"{percent(report.accuracy)} ({percent(low)} to {percent(high)}, {report.rows:,} rows)"


def _results(names: Sequence[str], scored: Sequence[Scored | None]) -> Figure:
    """The accuracy of each run with its interval."""
    dots: list[dict[str, Any]] = []
    for at, (name, one) in enumerate(zip(names, scored, strict=True)):
        report = one.evaluation.report if one is not None else None
        if isinstance(report, Report):
            low, high = report.intervals["accuracy"]
            value = report.accuracy
            bar = {
                "type": "data",
                "symmetric": False,
                "array": [high - value],
                "arrayminus": [value - low],
                "thickness": 2,
            }
            style = {"color": COLOURS[at % len(COLOURS)], "size": 11}
            hover = f"{percent(value)} ({percent(low)} to {percent(high)})<extra></extra>"
            dots.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [value],
                    "y": [escaped(name)],
                    "error_x": bar,
                    "marker": style,
                    "hovertemplate": hover,
                    "showlegend": False,
                }
            )
    words = (
        "With 95 % intervals: how much of a difference is chance. If an interval covers the other run's value, the "
        "test images do not tell the two apart."
    )
    layout = {
        "xaxis": axis("share of test images that are right", tickformat=".1%"),
        "yaxis": axis(type="category", autorange="reversed"),
    }
    return Figure("Accuracy on the test images", words, dots, layout, wide=True, height=110 + 40 * len(dots))


def _classes(scored: Sequence[Scored | None]) -> list[dict[str, Any]]:
    """The F1 of each class in each run, if all were evaluated on the same single target."""
    reports = [one.evaluation.targets.get(ONLY) if one is not None else None for one in scored]
    if not all(reports):
        return []
    tables = [{row["class"]: row for row in one.report.per_class()} for one in reports if one is not None]
    if any(table.keys() != tables[0].keys() for table in tables) or len(tables[0]) > _MOST_CLASSES:
        return []
    return [
        {"class": shortened(name), "f1": [table[name]["f1"] for table in tables], "rows": tables[0][name]["support"]}
        for name in tables[0]
    ]


def _rows(found: dict[str, list[Any]]) -> list[tuple[str, list[str]]]:
    return [(name, ["–" if value is MISSING else setting(value) for value in values]) for name, values in found.items()]
