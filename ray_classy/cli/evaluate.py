"""`ray-classy evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, short
from ray_classy.cli.trained import trained_at, use_code
from ray_classy.config import Config, apply_overrides
from ray_classy.dataset.target_columns import ONLY
from ray_classy.display import print_line
from ray_classy.inference.evaluation import config_for, evaluate
from ray_classy.inference.labels_report import LabelsReport
from ray_classy.inference.outputs import THRESHOLD
from ray_classy.inference.pace import seldom
from ray_classy.inference.report import Report
from ray_classy.inference.row_file import check_row_file, write_row_file
from ray_classy.printable import printable
from ray_classy.urls import shown

_MOST_CLASSES = 30
_MOST_CONFUSIONS = 5


def evaluate_run(arguments: argparse.Namespace) -> Answer:
    """Evaluates the model of a run on its test rows or on other data, and prints a report.

    Raises:
        UsageError: a word is missing.
        RayClassyError: it cannot be done; the message says why.
    """
    words = [word for word in arguments.words if "=" not in word or "://" in word]
    options = [word for word in arguments.words if word not in words]
    if not 1 <= len(words) <= 2:
        raise UsageError("evaluate takes a run or checkpoint, and data if it is not the run's; see evaluate --help")
    if (arguments.num_workers or 0) < 0:
        raise UsageError(f"--num-workers must be at least 0, not {arguments.num_workers}")
    if arguments.predictions is not None:
        check_row_file(arguments.predictions)
    use_code(arguments.code)
    trained = trained_at(words[0])
    given = dict(apply_overrides(Config({}), options)) if options else {}
    config = config_for(trained, words[1] if len(words) == 2 else None, given)
    ray = {"address": arguments.address, "use_gpu": arguments.use_gpu}
    config["ray"] = {key: value for key, value in ray.items() if value is not None}
    workers = arguments.num_workers or 0
    found = evaluate(trained, config, arguments.batch_size, arguments.flip, workers, seldom(print_line))
    data: dict[str, Any] = {"checkpoint": trained.path}
    lines = [f"checkpoint    {short(shown(trained.path))}"]
    for target, one in found.targets.items():
        figures = one.report.data()
        data.update(figures if target == ONLY else {"targets": {**data.get("targets", {}), target: figures}})
        lines += [] if target == ONLY else ["", f"target        {target}"]
        lines += _lines(one.report) if isinstance(one.report, Report) else _lines_of_labels(one.report)
    if arguments.predictions is not None:
        write_row_file(arguments.predictions, found)
        data["predictions"] = arguments.predictions
        lines.append(f"each row is in {short(shown(arguments.predictions))}")
    return Answer("\n".join(map(printable, lines)), data)


def _lines(report: Report) -> Iterator[str]:
    macro = report.averages()["macro"]
    low, high = report.intervals["accuracy"]
    yield _rows(report)
    yield f"accuracy      {report.accuracy:.4f}   95 % interval {low:.4f} to {high:.4f}"
    for k, value in report.top_k.items():
        yield f"top {k}         {value:.4f}"
    yield f"macro F1      {macro['f1']:.4f}{_resampled(report.intervals['macro_f1'])}"
    yield f"cross-entropy {report.loss:.4f}"
    yield f"calibration   {report.calibration_error:.4f}   expected difference of confidence and accuracy"
    yield ""
    yield from _table(report.per_class())
    confused = report.confused(_MOST_CONFUSIONS)
    if confused:
        yield ""
        yield "most frequent confusions"
        yield from (f"  {count:>6,}  {label} taken for {predicted}" for label, predicted, count in confused)


def _resampled(interval: tuple[float, float]) -> str:
    """A bootstrap interval; empty for one without width, of rows that are all alike, which says nothing."""
    low, high = interval
    return f"   95 % interval {low:.4f} to {high:.4f}" if low < high else ""


def _rows(report: Report | LabelsReport) -> str:
    bad = f", and {report.bad:,} that cannot be decoded" if report.bad else ""
    return f"rows          {report.rows:,}{bad}" + (
        f", and {report.unlabelled:,} without a label" if report.unlabelled else ""
    )


def _lines_of_labels(report: LabelsReport) -> Iterator[str]:
    averages = report.averages()
    yield _rows(report)
    yield f"mAP           {report.mean_average_precision:.4f}"
    yield f"micro F1      {averages['micro']['f1']:.4f}{_resampled(report.intervals['micro_f1'])}"
    yield f"macro F1      {averages['macro']['f1']:.4f}"
    low, high = report.intervals["subset_accuracy"]
    yield f"all right     {report.subset_accuracy:.4f}   95 % interval {low:.4f} to {high:.4f} (subset accuracy)"
    yield f"cross-entropy {report.loss:.4f}"
    yield ""
    yield f"a class is predicted where its probability is above {THRESHOLD}"
    yield from _table(report.per_class())


def _table(classes: list[dict[str, Any]]) -> Iterator[str]:
    """The scores of the classes; of many, those with the lowest F1."""
    shown_ones = classes
    if len(classes) > _MOST_CLASSES:
        shown_ones = sorted((one for one in classes if one["support"]), key=lambda one: one["f1"])[:_MOST_CLASSES]
        yield f"the {len(shown_ones)} classes with the lowest F1, of {len(classes)} (all: --json)"
    width = max(5, *(len(printable(one["class"])) for one in shown_ones))
    precise = "average_precision" in shown_ones[0]
    yield f"{'class':<{width}}  precision  recall      F1    {'    AP    ' if precise else ''}rows"
    for one in shown_ones:
        scores = f"{one['precision']:>9.4f}  {one['recall']:>6.4f}  {one['f1']:>6.4f}"
        scores += f"  {one['average_precision']:>6.4f}" if precise else ""
        yield f"{printable(one['class']):<{width}}  {scores}  {one['support']:>6,}"
