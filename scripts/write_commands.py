"""Writes docs/commands.md, all commands of `ray-classy` with their options, from the parser of the command line."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ray_classy.cli.arguments import _parser

PAGE = Path(__file__).parents[1] / "docs/commands.md"
HEAD = """# Commands

Every command of `ray-classy` with its options, as `ray-classy COMMAND --help` prints them. This page is written by
`make docs` from the parser of the command line. Options and other words may come in any order. The exit code is 0, 1
(the command failed), 2 (a mistake in the config or the command), or 128 plus the number of the signal that interrupted
it.
"""
READ_ON = {
    "train": "[running.md](running.md), [data.md](data.md#train-without-a-config)",
    "check": "[config.md](config.md#check-a-config)",
    "tune": "[sweeps.md](sweeps.md)",
    "bench-data": "[data.md](data.md#measure-the-input-pipeline)",
    "profile": "[profile.md](profile.md)",
    "evaluate": "[inference.md](inference.md#evaluate)",
    "predict": "[inference.md](inference.md#predict)",
    "export": "[inference.md](inference.md#export)",
    "serve": "[inference.md](inference.md#serve)",
    "report": "[report.md](report.md)",
    "submit": "[cluster.md](cluster.md)",
    "ls": "[running.md](running.md#list-and-compare-runs)",
    "compare": "[running.md](running.md#list-and-compare-runs)",
    "show": "[checkpoints.md](checkpoints.md#list-and-inspect-checkpoints)",
    "list": "[components.md](components.md), [models.md](models.md#find-a-network)",
    "recipes": "[recipes.md](recipes.md)",
    "schema": "[config.md](config.md#complete-and-check-in-an-editor)",
    "new": "[extending.md](extending.md#start-a-project)",
    "import": "[migrating.md](migrating.md)",
}
"""Where the documentation of a command is."""


def page() -> str:
    """The text of the page."""
    parser, _ = _parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    lines = [line for name, one in subparsers.choices.items() for line in section(name, one)]
    return "\n".join([HEAD, *lines]).rstrip() + "\n"


def section(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The lines about one command."""
    options = [action for action in parser._actions if action.option_strings and action.dest != "help"]
    words = next((action for action in parser._actions if not action.option_strings), None)
    yield f"## {name}"
    yield ""
    yield sentence(parser.description or "")
    yield ""
    yield from ("```text", f"ray-classy {name} {words.metavar if words else ''}".rstrip() + " [options]", "```", "")
    if words and words.help:
        yield sentence(f"`{words.metavar}`: {words.help}")
        yield ""
    yield from ("| option | |", "| --- | --- |")
    yield from (f"| `{usage(option)}` | {cell(option.help or '')} |" for option in options)
    yield ""
    if name in READ_ON:
        yield f"Read on: {READ_ON[name]}"
        yield ""


def usage(option: argparse.Action) -> str:
    value = "" if option.nargs == 0 else f" {option.metavar or option.dest.upper()}"
    return f"{option.option_strings[0]}{value}"


def cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|").replace("*", "\\*")


def sentence(text: str) -> str:
    text = cell(text.strip().rstrip("."))
    return f"{text[:1].upper()}{text[1:]}."


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
