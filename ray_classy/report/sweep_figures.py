"""The figures of a sweep: all curves, parallel coordinates, each parameter against the metric, importance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray_classy.report.figures import COLOURS, GREY, Figure, axis, curve, epochs_axis, escaped
from ray_classy.report.importance import Importance, is_number
from ray_classy.report.words import metric_name, number, setting, shortened

_SCHEDULES = "param_schedulers"
_MOST_CURVES = 300
_MOST_PARAMETERS = 24
_LOW, _MIDDLE, _HIGH = (201, 208, 221), (88, 133, 214), (20, 48, 120)
_DECADES_FOR_LOGARITHMS = 1.0
_LEAST_BETWEEN_TICKS = 0.12  # of the length of an axis


@dataclass(frozen=True)
class Trial:
    """What the figures show of a trial.

    Attributes:
        name: of its folder.
        params: its parameters.
        value: of the metric, in its last report; None if it has none.
        state: as recorded.
        epochs, curve: where it reported the metric, and the values.
        seconds: its training time.
    """

    name: str
    params: dict[str, Any]
    value: float | None
    state: str
    epochs: list[float] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    seconds: float | None = None


def sweep_figures(
    trials: Sequence[Trial],
    metric: str,
    mode: str,
    found: Sequence[Importance],
    logarithmic: Collection[str] = (),
) -> tuple[list[Figure], list[Figure]]:
    """Returns the figures of all trials, and those of each parameter.

    Args:
        trials: the best first.
        metric: by which they are ranked.
        mode: "min" or "max".
        found: importance of the parameters.
        logarithmic: the parameters that were drawn on a logarithmic scale.
    """
    known = [trial for trial in trials if trial.value is not None]
    colours = _colours(known, mode)
    figures = [_curves(trials, metric, colours)]
    if len(known) > 1:
        figures.append(_parallel(known, metric, mode, colours, logarithmic))
    if found:
        figures.append(_importance(found))
    each = [
        _against(known, name, metric, colours, name in logarithmic) for name in parameters(known)[:_MOST_PARAMETERS]
    ]
    return [one for one in figures if one.traces], each


def parameters(trials: Sequence[Trial]) -> list[str]:
    """The parameters of the trials."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def last_words(names: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted name that no other one has: of two words at least, or one after a number.

    That of a schedule begins with what is scheduled (`lr.then.start_value`).
    """
    found = {}
    for name in names:
        parts = name.split(".")
        least = 2 if len(parts) > 1 and not parts[-2].isdigit() else 1
        if _SCHEDULES in parts[:-1]:
            least = len(parts) - parts.index(_SCHEDULES) - 1
        ends = [".".join(parts[-length:]) for length in range(least, len(parts) + 1)]
        own = [end for end in ends if sum(f".{other}".endswith(f".{end}") for other in names) == 1]
        found[name] = own[0] if own else name
    return found


def _colours(trials: Sequence[Trial], mode: str) -> dict[str, str]:
    """The colour of each trial: the better, the darker; by rank, so that one outlier does not hide the others."""
    order = sorted({trial.value or 0.0 for trial in trials}, reverse=mode == "min")
    shares = {value: (place + 1) / len(order) for place, value in enumerate(order)}
    return {trial.name: _mixed(shares[trial.value or 0.0]) for trial in trials}


def _mixed(share: float) -> str:
    low, high, part = (_LOW, _MIDDLE, 2 * share) if share < 0.5 else (_MIDDLE, _HIGH, 2 * share - 1)
    return "rgb({},{},{})".format(*(round(a + (b - a) * part) for a, b in zip(low, high, strict=True)))


def _curves(trials: Sequence[Trial], metric: str, colours: dict[str, str]) -> Figure:
    traces = []
    for place, trial in reversed(list(enumerate(trials[:_MOST_CURVES]))):
        if trial.curve:
            width = 3 if place == 0 else 1.5
            one = curve(trial.epochs, trial.curve, trial.name, colours.get(trial.name, GREY), line={"width": width})
            traces.append(
                {**one, "text": _described(trial), "hovertemplate": "%{text}<br>epoch %{x}: %{y:.4f}<extra></extra>"}
            )
    more = f" Of {len(trials)} trials, the best {_MOST_CURVES} are drawn." if len(trials) > _MOST_CURVES else ""
    words = f"A curve for each trial; the darker, the better it ended. The best one is thick.{more}"
    layout = {
        "xaxis": epochs_axis(max((trial.epochs[-1] for trial in trials if trial.epochs), default=0)),
        "yaxis": axis(metric_name(metric)),
        "showlegend": False,
        "meta": {"highlight": True},
    }
    return Figure("All trials", words, traces, layout, wide=True, height=380)


def _described(trial: Trial) -> str:
    rows = [f"<b>{escaped(trial.name)}</b>"]
    rows += [f"{escaped(name)} = {escaped(setting(value))}" for name, value in trial.params.items()]
    return "<br>".join(rows)


@dataclass(frozen=True)
class _Scale:
    """Places values of a parameter on an axis from 0 to 1.

    Attributes:
        values: of the trials.
        searched_by_logarithm: whether the search has drawn them on a logarithmic scale.
    """

    values: Sequence[Any]
    searched_by_logarithm: bool = False

    @property
    def numeric(self) -> bool:
        return all(map(is_number, self.values))

    @property
    def logarithmic(self) -> bool:
        """Whether the axis is logarithmic.

        It is if values were searched so, or span decades with their median nearer to the middle of such an axis.
        """
        if not self.numeric or min(self.values) <= 0:
            return False
        if self.searched_by_logarithm:
            return True
        low, middle, high = (float(one(self.values)) for one in (min, statistics.median, max))
        if math.log10(high / low) < _DECADES_FOR_LOGARITHMS:
            return False
        linear, logarithmic = (middle - low) / (high - low), math.log(middle / low) / math.log(high / low)
        return abs(logarithmic - 0.5) < abs(linear - 0.5)

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(map(str, self.values)))

    def place(self, value: Any) -> float:
        if not self.numeric:
            return (
                self.categories.index(str(value)) / max(1, len(self.categories) - 1)
                if len(self.categories) > 1
                else 0.5
            )
        low, high, own = (
            math.log(one) if self.logarithmic else float(one) for one in (min(self.values), max(self.values), value)
        )
        return (own - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[Any, str]]:
        """Values that have a label, and the label."""
        if not self.numeric:
            return [(one, shortened(one, 18)) for one in self.categories]
        if self.logarithmic:
            first, last = math.ceil(math.log10(min(self.values))), math.floor(math.log10(max(self.values)))
            inner = [10.0**power for power in range(first, last + 1)]
            ends = [
                one
                for one in (min(self.values), max(self.values))
                if all(abs(self.place(one) - self.place(i)) > _LEAST_BETWEEN_TICKS for i in inner)
            ]
            return [(one, f"{one:.2g}") for one in dict.fromkeys((*inner, *ends))]
        low, high = min(self.values), max(self.values)
        steps = [low + (high - low) * part / 4 for part in range(5)] if high > low else [low]
        return [(one, f"{one:.3g}") for one in steps]


def _parallel(
    trials: Sequence[Trial], metric: str, mode: str, colours: dict[str, str], logarithmic: Collection[str]
) -> Figure:
    names = parameters(trials)
    short = last_words(names)
    columns: list[tuple[str, _Scale]] = [
        (name, _Scale([trial.params.get(name) for trial in trials], name in logarithmic)) for name in names
    ]
    columns.append((metric, _Scale([trial.value for trial in trials])))
    titles = [short.get(name, metric_name(name)) for name, _ in columns]
    traces: list[dict[str, Any]] = []
    for trial in reversed(trials):
        own = [trial.params.get(name) for name in names] + [trial.value]
        y = [scale.place(value) for (_, scale), value in zip(columns, own, strict=True)]
        best = trial is trials[0]
        style = {"color": colours[trial.name], "width": 3 if best else 1.3, "shape": "spline", "smoothing": 0.3}
        text = f"{_described(trial)}<br>{escaped(metric_name(metric))} = {escaped(number(trial.value))}"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": list(range(len(columns))),
                "y": y,
                "line": style,
                "opacity": 1 if best else 0.85,
                "text": text,
                "hovertemplate": "%{text}<extra></extra>",
                "name": trial.name,
            }
        )
    shapes = [
        {
            "type": "line",
            "x0": at,
            "x1": at,
            "y0": 0,
            "y1": 1,
            "line": {"color": "#9aa4b4", "width": 1},
            "layer": "below",
        }
        for at in range(len(columns))
    ]
    notes = [
        {
            "x": at,
            "y": scale.place(value),
            "text": escaped(text),
            "showarrow": False,
            "xanchor": "right",
            "xshift": -5,
            **_TICK,
        }
        for at, (_, scale) in enumerate(columns)
        for value, text in scale.ticks()
    ]
    ticks: dict[str, Any] = {
        "tickvals": list(range(len(columns))),
        "ticktext": [f"<b>{escaped(shortened(one, 22))}</b>" for one in titles],
    }
    layout = {
        "xaxis": axis(
            side="top",
            range=[-0.07 * len(columns), len(columns) - 1 + 0.05 * len(columns)],
            showgrid=False,
            showline=False,
            **ticks,
        ),
        "yaxis": axis(range=[-0.05, 1.05], visible=False),
        "shapes": shapes,
        "annotations": notes,
        "showlegend": False,
        "margin": {"l": 24, "r": 24, "t": 40, "b": 14},
        "meta": {"highlight": True},
    }
    direction = "largest" if mode == "max" else "smallest"
    words = (
        f"Each line is a trial: follow it from parameter to parameter to its {metric_name(metric)} on the right. The "
        f"darker, the better; the best one, with the {direction} value, is thick. Move the pointer over a line to "
        f"single it out."
    )
    return Figure("Parallel coordinates", words, traces, layout, wide=True, height=400)


_TICK = {
    "bgcolor": "#fff",
    "font": {"size": 10.5, "color": "#5c6779"},
    "showarrow": False,
    "xanchor": "right",
    "xshift": -5,
}


def _importance(found: Sequence[Importance]) -> Figure:
    short = last_words([one.name for one in found])
    rows = list(reversed(found[:_MOST_PARAMETERS]))
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [one.share for one in rows],
        "y": [escaped(short[one.name]) for one in rows],
        "marker": {"color": COLOURS[0]},
        "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
    }
    words = (
        "The share of the metric's variation between trials that goes along with a parameter, for each one alone "
        "(epsilon squared of ranks). With few trials it is a hint, not a proof; trials that were stopped early count "
        "with their last value."
    )
    layout = {"xaxis": axis(range=[0, 1], tickformat=".0%"), "yaxis": axis(type="category", showgrid=False)}
    return Figure("Which parameters matter", words, [bars], layout, wide=True, height=110 + 30 * len(rows))


def _against(
    trials: Sequence[Trial], name: str, metric: str, colours: dict[str, str], logarithmic: bool = False
) -> Figure:
    values = [trial.params.get(name) for trial in trials]
    scale = _Scale(values, logarithmic)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": values if scale.numeric else [escaped(shortened(str(value), 24)) for value in values],
        "y": [trial.value for trial in trials],
        "marker": {
            "color": [colours[trial.name] for trial in trials],
            "size": 9,
            "line": {"color": "#fff", "width": 1},
        },
        "text": [_described(trial) for trial in trials],
        "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
    }
    kind = (
        {"type": "log", "tickvals": [at for at, _ in scale.ticks()], "ticktext": [text for _, text in scale.ticks()]}
        if scale.logarithmic
        else {}
        if scale.numeric
        else {"type": "category"}
    )
    layout = {"xaxis": axis(escaped(name), **kind), "yaxis": axis(metric_name(metric))}
    return Figure(shortened(name), "", [dots], layout, height=260)
