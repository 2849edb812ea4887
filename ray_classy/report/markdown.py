"""A page as Markdown, short enough for the text of a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ray_classy.redact import redacted
from ray_classy.report.page import Page
from ray_classy.report.words import number

_MOST_CLASSES, _MOST_CONFUSIONS, _MOST_TRIALS = 10, 5, 10
_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def markdown(page: Page) -> str:
    """Returns what a page says in words and tables, without its figures and pictures."""
    kinds = {"run.html.j2": _run, "compare.html.j2": _compare, "sweep.html.j2": _sweep}
    lines = [f"## {plain(page.title)}", "", *kinds[page.template](page)]
    if page.notes:
        lines += ["", *(f"> {plain(note)}" for note in page.notes)]
    return redacted("\n".join(lines).rstrip() + "\n")


def plain(text: Any) -> str:
    """A text of the user's, which is nothing but text in Markdown and in HTML."""
    return html.escape(_SPECIAL.sub(r"\\\1", " ".join(str(text).split())), quote=False)


def _code(text: str) -> str:
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(found) for found in re.findall("`+", line)), default=0))
    return f"{fence}{' ' if len(fence) > 1 else ''}{line}{' ' if len(fence) > 1 else ''}{fence}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yields the lines of a table; cells are texts of the user's."""
    yield f"| {' | '.join(map(plain, head))} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(map(plain, row))} |" for row in rows)


def _run(page: Page) -> Iterator[str]:
    values = page.context
    result = values["result"]
    if result is not None:
        yield f"**{plain(result['value'])}** {plain(result['caption'])}. {plain(result['interval'])}"
        yield ""
    yield plain(" ".join(values["lead"]))
    if result is not None:
        yield ""
        yield from table([name for name, _ in result["tiles"]], [[value for _, value in result["tiles"]]])
    for target, data in zip(values["targets"], page.data.get("targets", ()), strict=True):
        worst = sorted((row for row in data["per_class"] if row["support"]), key=lambda row: row["f1"])[:_MOST_CLASSES]
        yield ""
        yield f"### {plain(target['name'] or 'Classes')}" + (
            " with the lowest F1" if len(worst) < len(data["per_class"]) else ""
        )
        yield ""
        rows = [
            [row["class"], number(row["recall"]), number(row["precision"]), number(row["f1"]), row["support"]]
            for row in worst
        ]
        yield from table(["class", "recall", "precision", "F1", f"{values['unit']}s"], rows)
        wrong = [cell for cell in data.get("cells", ()) if cell["true"] != cell["predicted"]][:_MOST_CONFUSIONS]
        if wrong:
            yield ""
            yield "Most frequent confusions: " + "; ".join(
                plain(
                    f"{data['classes'][cell['true']]} taken for {data['classes'][cell['predicted']]} ({cell['rows']:,})"
                )
                for cell in wrong
            )
    changes = values["changes"]
    if changes is not None and (changes.rows or changes.words):
        yield ""
        yield f"### Changes of {plain(changes.base)}"
        yield ""
        if changes.rows:
            yield from table(["key", "there", "here"], changes.rows)
        else:
            yield ", ".join(map(_code, changes.words))
    yield ""
    yield from (f"- {plain(name)}: {plain(value)}" for name, value in [*values["cost"], *values["environment"]])


def _compare(page: Page) -> Iterator[str]:
    names = [run["name"] for run in page.context["runs"]]
    rows = [
        [f"best {name}", *(" ".join(filter(None, (one["value"], one["difference"]))) for one in cells)]
        for name, cells in page.context["results"]
    ]
    if any(one != "–" for one in page.context["accuracies"]):
        rows.insert(0, ["accuracy (95 % interval)", *page.context["accuracies"]])
    yield from table(["result", *names], rows)
    for title in ("config", "versions"):
        if page.context[title]:
            yield ""
            yield from table([title, *names], [[key, *values] for key, values in page.context[title]])


def _sweep(page: Page) -> Iterator[str]:
    values = page.context
    yield plain(values["lead"])
    yield ""
    names = values["names"]
    rows = [
        [one.name, number(one.value), *(number(one.params.get(name)) for name in names), one.state]
        for one in values["trials"][:_MOST_TRIALS]
    ]
    yield from table(["trial", values["metric"], *(values["short"][name] for name in names), "state"], rows)
    if len(values["trials"]) > len(rows):
        yield ""
        yield f"and {len(values['trials']) - len(rows)} more trials"
