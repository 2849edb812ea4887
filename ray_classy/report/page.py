"""A page before it is written: the values of its template, its figures, and the data of its script."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_classy import __version__
from ray_classy.errors import UnavailableError
from ray_classy.redact import redacted_values
from ray_classy.report import words
from ray_classy.report.figures import Figure

if TYPE_CHECKING:
    import jinja2

MOST_BYTES = 15 * 1000 * 1000
"""Of a page; one that would be larger has no pictures."""
MARK = '<meta name="generator" content="ray_classy report">'
"""By which a file is known to be a report."""
_TEMPLATES = Path(__file__).parent / "templates"
_IN_SCRIPTS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass
class Page:
    """What a page shows.

    Attributes:
        template: the name of its file.
        title: of the page.
        context: values of the template.
        data: what the page's script needs, plain values.
        figures: in the order of their numbers.
        pictures: data URIs.
        notes: what the page lacks, and why.
    """

    template: str
    title: str
    context: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def figure(self, figure: Figure) -> dict[str, Any]:
        """Adds a figure, and returns what the template needs of it."""
        self.figures.append(figure)
        return {
            "number": len(self.figures) - 1,
            "title": figure.title,
            "explained": figure.explained,
            "wide": figure.wide,
            "height": figure.height,
        }

    def html(self) -> str:
        """Returns the page as one file.

        Raises:
            UnavailableError: the plotting library is not installed.
        """
        html = self._rendered(self.pictures)
        if len(html.encode()) <= MOST_BYTES:
            return html
        self.notes.append("The page would have more than 15 MB with its pictures, so it has none.")
        return self._rendered([])

    def _rendered(self, pictures: list[str]) -> str:
        data = {**self.data, "figures": [one.data() for one in self.figures]}
        values = {**self.context, "title": self.title, "notes": self.notes, "version": __version__}
        return (
            _environment()
            .get_template(self.template)
            .render(
                **redacted_values(values),
                mark=MARK,
                plotly=plotly_script(),
                style=_file("report.css"),
                script=_file("report.js"),
                data=script_json({**redacted_values(data), "pictures": pictures}),
            )
        )


def script_json(value: Any) -> str:
    """Converts a value to JSON that can stand inside a script element, whatever texts are in it."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"), default=str)
    for character, escaped in _IN_SCRIPTS.items():
        text = text.replace(character, escaped)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@functools.cache
def plotly_script() -> str:
    """Returns the plotting library as JavaScript.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise _missing("plotly") from error
    return get_plotlyjs()


@functools.cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise _missing("jinja2") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number, setting=words.setting, percent=words.percent, shortened=words.shortened
    )
    return environment


def check_installed() -> None:
    """Checks that pages can be made.

    Raises:
        UnavailableError: a package is missing; the message says how to install it.
    """
    _environment()
    plotly_script()


def _missing(package: str) -> UnavailableError:
    return UnavailableError(f"a report needs {package}: pip install 'ray_classy[report]'")


@functools.cache
def _file(name: str) -> str:
    return _TEMPLATES.joinpath(name).read_text(encoding="utf-8")
