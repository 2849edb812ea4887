"""Learning curves: loss, metrics, learning rate, throughput and data wait over epochs, of one run or of several."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

from ray_classy.checkpoint.files import is_checkpoint_name, position_of
from ray_classy.errors import RayClassyError
from ray_classy.optim.param_scheduler.composite_scheduler import LAST_WHERE
from ray_classy.report.figures import COLOURS, GREY, Figure, axis, curve, epochs_axis, escaped, marks
from ray_classy.report.run_source import RunSource, number_in
from ray_classy.report.words import metric_name, titled
from ray_classy.tasks.metrics import dotted

_MOST_METRICS = 6
_MOST_MARKS = 12
_POINTS_OF_SCHEDULE = 400
_POINTS_OF_PHASE = 100
_KINDS = ("train", "test")


def learning_figures(runs: Sequence[RunSource]) -> list[Figure]:
    """Returns the figures that have anything to show.

    Args:
        runs: one run, whose train and test curves have a colour each, or several with a colour each.
    """
    names = list(dict.fromkeys(name for run in runs for name in _metrics_of(run)))
    figures: list[Figure | None] = [_of_metric(runs, name) for name in names[:_MOST_METRICS]]
    figures += [_learning_rate(runs), _throughput(runs), _data_wait(runs)]
    events = marks(events_of(runs[0])) if len(runs) == 1 else {}
    return [
        Figure(one.title, one.explained, one.traces, {**one.layout, **events}) for one in figures if one and one.traces
    ]


def events_of(run: RunSource) -> list[tuple[float, str]]:
    """Returns where a run resumed or changed its number of workers, in epochs, and what happened there."""
    found = [(_place(run, resume.checkpoint), "resumed") for start in run.starts for resume in start.resumes]
    for start in run.starts[1:]:
        if not start.resumes:  # a run of an older version
            found.append(
                (_place(run, start.resumed_from) if start.resumed_from else _epoch_at(run, start.at), "resumed")
            )
    for before, after in itertools.pairwise(line for line in run.lines if isinstance(line.get("world_size"), int)):
        if before["world_size"] != after["world_size"]:
            found.append((float(before["epoch"]), f"{before['world_size']} → {after['world_size']} workers"))
    return sorted(found)[:_MOST_MARKS]


def _place(run: RunSource, checkpoint: str) -> float:
    """The epoch of a checkpoint, with its fraction where other checkpoints say how many steps an epoch has."""
    if not is_checkpoint_name(checkpoint):
        return 0.0
    epoch, step = position_of(checkpoint)[:2]
    names = run.folder.checkpoints.names()
    last_epoch, last_step = position_of(names[-1])[:2] if names else (0, 0)
    return step * last_epoch / last_step if last_epoch and last_step and step <= last_step else float(epoch)


def _epoch_at(run: RunSource, at: str | None) -> float:
    before = [float(line["epoch"]) for line in run.lines if at and str(line.get("at") or "") <= at]
    return before[-1] if before else 0.0


def _metrics_of(run: RunSource) -> Iterator[str]:
    for line in run.lines:
        for name, value in dotted(line["metrics"]).items():
            if _is_number(value) and "per_class." not in name:
                yield name


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def points(run: RunSource, kind: str, name: str) -> tuple[list[float], list[float]]:
    """Returns epochs, and the values of a metric of the phases of a kind."""
    lines = [line for line in run.lines if line.get("phase_type") == kind]
    found = [(float(line["epoch"]), dotted(line["metrics"]).get(name)) for line in lines]
    kept = [(epoch, float(value)) for epoch, value in found if value is not None and _is_number(value)]
    return [epoch for epoch, _ in kept], [value for _, value in kept]


def _of_metric(runs: Sequence[RunSource], name: str) -> Figure:
    traces: list[dict[str, Any]] = []
    for number, run in enumerate(runs):
        several = len(runs) > 1
        for kind in _KINDS:
            x, y = points(run, kind, name)
            colour = COLOURS[number % len(COLOURS)] if several else COLOURS[_KINDS.index(kind)]
            style = {"dash": "dot" if kind == "train" else "solid"} if several else {}
            title = f"{run.name}, {kind}" if several else kind
            if x:
                traces.append(curve(x, y, escaped(title), colour, line=style))
        if name == "loss" and not several:
            traces = [*_within(run, "loss", "train, within epochs"), *traces]
    kind = "lower is better" if name.endswith("loss") else "higher is better"
    words = (
        f"How wrong the model is on average; {kind}. If the test curve rises while the train curve falls, the model "
        f"learns its training images by heart."
        if name == "loss"
        else f"On the training images while they are learned, and on test images it does not learn from; {kind}."
    )
    layout = {"xaxis": _epochs(runs), "yaxis": axis()}
    return Figure(titled(metric_name(f"test.{name}").removesuffix(" (test)")), words, traces, layout)


def _epochs(runs: Sequence[RunSource]) -> dict[str, Any]:
    return epochs_axis(max(run.epochs for run in runs))


def _within(run: RunSource, key: str, name: str, kind: str = "train") -> list[dict[str, Any]]:
    """The thin curve of a figure within epochs, from the lines of `steps.jsonl`."""
    lines = [line for line in run.steps if line["phase_type"] == kind]
    found = [(run.epoch_of(line), _first(line.get(key))) for line in lines]
    kept = [(epoch, value) for epoch, value in found if value is not None and _is_number(value)]
    if len(kept) < 2:
        return []
    style = {"width": 1}
    return [curve([x for x, _ in kept], [y for _, y in kept], name, GREY, line=style, mode="lines", opacity=0.8)]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _learning_rate(runs: Sequence[RunSource]) -> Figure | None:
    traces = []
    for number, run in enumerate(runs):
        found, style = _logged_rates(run) or _scheduled_rates(run), {}
        if found is None:
            found, style = _rates_of_phases(run), {"shape": "vh"}
        name = escaped(run.name) if len(runs) > 1 else "learning rate"
        if found:
            traces.append(curve(*found, name, COLOURS[number % len(COLOURS)], line=style, mode="lines"))
    words = "How large each correction of the weights is; it usually shrinks towards the end."
    layout = {"xaxis": _epochs(runs), "yaxis": axis(rangemode="tozero")}
    return Figure("Learning rate", words, traces, layout)


def _logged_rates(run: RunSource) -> tuple[list[float], list[float]] | None:
    kept = [(run.epoch_of(one), _first(one.get("lr"))) for one in run.steps if one.get("lr")]
    if len(kept) < 20:  # a short run logs few
        return None
    return [x for x, _ in kept], [float(y) for _, y in kept if y is not None]


def _recorded(run: RunSource) -> list[tuple[float, list[float]]]:
    """Where train phases ended, in epochs, and the rates of their last updates; older versions recorded none."""
    lines = [line for line in run.lines if isinstance(line.get("lr"), list)]
    found = [(float(line["epoch"]), [rate for rate in line["lr"] if _is_number(rate)]) for line in lines]
    return [(epoch, rates) for epoch, rates in found if rates]


def _rates_of_phases(run: RunSource) -> tuple[list[float], list[float]] | None:
    """A rate for each train phase, from where it began to where it ended."""
    found = _recorded(run)
    rates = [float(rates[0]) for _, rates in found]
    return ([0.0, *(epoch for epoch, _ in found)], [rates[0], *rates]) if found else None


def _agrees(run: RunSource, rate_at: Callable[[float], float]) -> bool:
    """Whether a schedule has, in each train phase, a rate that was recorded at its end.

    It does not where the run was resumed with another length, rate or schedule.

    Args:
        run: the run.
        rate_at: the rate of an epoch.
    """
    begin = 0.0
    for epoch, recorded in _recorded(run):
        rates = [rate_at(begin + (epoch - begin) * number / _POINTS_OF_PHASE) for number in range(_POINTS_OF_PHASE)]
        slack = max(rates) / _POINTS_OF_PHASE  # the last update is between the last of them and the end
        if not any(min(rates) - slack <= rate <= max(rates) + slack for rate in recorded):
            return False
        begin = epoch
    return True


def _scheduled_rates(run: RunSource) -> tuple[list[float], list[float]] | None:
    """The schedule that the config asks for, up to where the run is; None if it is not what the run has used."""
    if not run.lines:
        return None
    until = run.epochs * min(1.0, number_in(run.lines[-1], "where") or 1.0)
    epochs = [until * number / _POINTS_OF_SCHEDULE for number in range(_POINTS_OF_SCHEDULE + 1)]
    try:
        rate_at = _schedule_of(run)
        return (epochs, list(map(rate_at, epochs))) if rate_at is not None and _agrees(run, rate_at) else None
    except (RayClassyError, ArithmeticError, KeyError, TypeError, ValueError):  # of a module that is not imported here
        return None


def _schedule_of(run: RunSource) -> Callable[[float], float] | None:
    """The learning rate of an epoch by the config; None if it has none."""
    from ray_classy.optim import build_optimizer_schedulers
    from ray_classy.optim.param_scheduler.warmup import TrainingLength

    optimizer = run.config.get("optimizer")
    if not isinstance(optimizer, dict):
        return None
    schedule = build_optimizer_schedulers(optimizer, run.epochs).get("lr")
    if schedule is None:
        constant = optimizer.get("lr")
        return (lambda epoch: float(constant)) if _is_number(constant) else None
    if getattr(schedule, "needs_length", False):
        schedule.set_length(TrainingLength((_updates_per_epoch(run),) * max(1, round(run.epochs))))
    return lambda epoch: float(schedule(min(epoch / run.epochs, LAST_WHERE)))


def _updates_per_epoch(run: RunSource) -> int:
    """Updates of the optimizer in an epoch, from the name of the last checkpoint or from the rows of an update."""
    simulated, last = run.config.get("simulated_global_batchsize"), run.lines[-1]
    if simulated:
        return max(1, round((number_in(last, "num_updates") or 0) / float(last["epoch"]) / float(simulated)))
    names = run.folder.checkpoints.names()
    epoch, step = position_of(names[-1])[:2] if names else (0, 0)
    return max(1, round(step / epoch)) if epoch else 1


def _throughput(runs: Sequence[RunSource]) -> Figure:
    traces = []
    for number, run in enumerate(runs):
        several = len(runs) > 1
        for kind in _KINDS[:1] if several else _KINDS:
            lines = [one for one in run.lines if one["phase_type"] == kind and number_in(one, "samples_per_second")]
            colour = COLOURS[number % len(COLOURS)] if several else COLOURS[_KINDS.index(kind)]
            if lines:
                x, y = [float(one["epoch"]) for one in lines], [float(one["samples_per_second"]) for one in lines]
                traces.append(curve(x, y, escaped(run.name) if several else kind, colour))
        if not several:
            traces = [*_within(run, "samples_per_second", "train, within epochs"), *traces]
    layout = {"xaxis": _epochs(runs), "yaxis": axis(rangemode="tozero")}
    return Figure("Images per second", "The speed of all workers together.", traces, layout)


def _data_wait(runs: Sequence[RunSource]) -> Figure:
    traces = []
    for number, run in enumerate(runs):
        name = run.name if len(runs) > 1 else "waiting for data"
        traces += [
            {**one, "line": {"color": COLOURS[number % len(COLOURS)], "width": 2}, "name": escaped(name)}
            for one in _within(run, "data_wait", "")
        ]
    words = (
        "The share of the time in which training waits for its next batch. Above a tenth, reading and decoding images "
        "is the bottleneck: add CPUs, or see ray-classy bench-data."
    )
    layout = {"xaxis": _epochs(runs), "yaxis": axis(tickformat=".0%", rangemode="tozero")}
    return Figure("Data wait", words, traces, layout)
