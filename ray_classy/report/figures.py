"""Figures of Plotly as plain dicts, in one style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

COLOURS = ("#2f5fd0", "#e07b39", "#1f9d78", "#c2457c", "#7a5cc7", "#b8952b", "#3b9bc4", "#7d5a4f")
"""Of the first, second, ... run; told apart also by most people who do not see all colours."""
GREY, INK = "#8a94a6", "#273043"
_FEW_EPOCHS = 12
MOST_POINTS = 1500
"""Points of a curve; longer ones are thinned out."""


@dataclass(frozen=True)
class Figure:
    """A chart of the page.

    Attributes:
        title: above it.
        explained: what it shows, in a sentence or two.
        traces, layout: as Plotly takes them.
        wide: whether it takes the whole width of the page.
        height: in pixels.
    """

    title: str
    explained: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any] = field(default_factory=dict)
    wide: bool = False
    height: int = 300

    def data(self) -> dict[str, Any]:
        """As the page's script draws it."""
        base: dict[str, Any] = {
            "margin": {"l": 56, "r": 14, "t": 10, "b": 44},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
            "hovermode": "closest",
            "hoverlabel": {"namelength": -1},
            "showlegend": sum(trace.get("showlegend", True) for trace in self.traces) > 1,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
            "height": self.height,
        }
        if base["showlegend"]:
            base["margin"] = {**base["margin"], "t": 34}
        layout = {**base, **self.layout}
        for name in ("xaxis", "yaxis"):
            layout[name] = {**axis(), **layout.get(name, {})}
        return {"data": [dict(trace) for trace in self.traces], "layout": layout}


def axis(title: str | None = None, **more: Any) -> dict[str, Any]:
    """An axis in the style of the page."""
    plain = {"gridcolor": "#e8ebf0", "zeroline": False, "linecolor": "#c9d0da", "automargin": True}
    return {**plain, **({} if title is None else {"title": {"text": title, "font": {"size": 12}}}), **more}


def epochs_axis(most: float) -> dict[str, Any]:
    """An x axis of so many epochs, with whole numbers."""
    return axis("epoch", **({"dtick": 1} if most <= _FEW_EPOCHS else {}))


def curve(x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **more: Any) -> dict[str, Any]:
    """A curve, thinned out if it is long; a point alone is drawn as one."""
    step = -(-len(x) // MOST_POINTS) if x else 1
    style = {"color": colour, "width": 2, **more.pop("line", {})}
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) <= 40 else "lines",
        "x": list(x[::step]),
        "y": list(y[::step]),
        "name": name,
        "line": style,
        "marker": {"size": 5},
        **more,
    }


def marks(at: Sequence[tuple[float, str]]) -> dict[str, Any]:
    """Dashed vertical lines with a text, as parts of a layout.

    Args:
        at: place on the x axis, and text.
    """
    shapes = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": _DASHED}
        for x, _ in at
    ]
    notes = [
        {"x": x, "y": 1, "xref": "x", "yref": "paper", "text": escaped(text), "showarrow": False, **_NOTE}
        for x, text in at
    ]
    return {"shapes": shapes, "annotations": notes}


_DASHED = {"color": GREY, "width": 1, "dash": "dot"}
_NOTE = {"xanchor": "left", "yanchor": "top", "font": {"size": 10, "color": GREY}, "textangle": 0}


def escaped(text: Any) -> str:
    """A text for a figure: Plotly reads a little HTML in names, and nothing of the user's is meant as such."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
