"""Parses the command line of `ray-classy`, and says what is wrong with it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from ray_classy import __version__
from ray_classy.cli.commands import add_commands
from ray_classy.errors import RayClassyError
from ray_classy.job_driver import SUBMITTED
from ray_classy.printable import shell_word
from ray_classy.registry import nearest

_EXAMPLES = """examples:
  ray-classy train recipe:digits --num-workers 2 num_epochs=3
  ray-classy train --images photos --weights DEFAULT
  ray-classy train --resume runs/20260102-030405-ab12 num_epochs=20
  ray-classy train recipe:digits test_only=true --checkpoint runs/20260102-030405-ab12
  ray-classy tune recipe:sweeps/asha --num-samples 12
  ray-classy tune --images photos --weights DEFAULT --budget 1h
  ray-classy check my.yaml
  ray-classy bench-data my.yaml
  ray-classy profile my.yaml
  ray-classy evaluate runs/20260102-030405-ab12
  ray-classy predict runs/20260102-030405-ab12 photos --output predictions.csv
  ray-classy ls runs --sort best
  ray-classy compare runs/20260102-030405-ab12 runs/20260103-040506-cd34
  ray-classy submit --address http://HEAD:8265 train my.yaml --storage-path s3://bucket/runs
  ray-classy report runs/20260102-030405-ab12
  ray-classy serve runs/20260102-030405-ab12 --port 8000
  ray-classy list optimizer
  ray-classy recipes
"""


class UsageError(RayClassyError, ValueError):
    """The command line has a mistake."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the command line; flags and other words may come in any order.

    Raises:
        UsageError: the command line has a mistake.
        SystemExit: after --help and --version.
    """
    inner = _submitted(argv)
    parser, options = _parser()
    if argv and not argv[0].startswith("-") and argv[0] not in options:
        raise UsageError(_unknown_command(argv[0], list(options)))
    arguments, rest = parser.parse_known_args(list(argv[: len(argv) - len(inner)]))
    for word in rest:
        if word.startswith("-"):
            raise UsageError(f"unknown option {word!r}: {_instead(word, arguments.command, options)}")
    arguments.words += rest
    if arguments.command == "submit":
        arguments.job = parsed(inner) if inner else None
        arguments.words += inner[1:] if inner else []
    return arguments


def _submitted(argv: Sequence[str]) -> Sequence[str]:
    """The command that `submit` is given: its last words, with flags of their own."""
    if argv[:1] != ["submit"]:
        return ()
    begin = next((index for index, word in enumerate(argv) if index and word in SUBMITTED), len(argv))
    return argv[begin:]


def _unknown_command(word: str, commands: list[str]) -> str:
    near = nearest(word, commands)
    hint = f"did you mean {near}? The" if near else "the"
    if word.endswith((".yaml", ".yml", ".json")):
        hint = f"write ray-classy train {shell_word(word)}; the"
    return f"there is no command {word!r}: {hint} commands are {', '.join(commands)}"


def _instead(word: str, command: str, options: dict[str, list[str]]) -> str:
    """What to write in place of an option that a command does not have."""
    name, _, value = word.partition("=")
    if name == "--local" and command == "tune":
        return "a sweep runs on Ray, which starts on this machine without --address"
    others = [one for one, names in options.items() if name in names]
    if others:
        return f"{command} has none; it is one of {' and '.join(others)}"
    near = nearest(name, options[command])
    if near:
        return f"did you mean {near}?"
    if "--code" in options[command]:
        return f"values of the config are given without dashes, as in {name.strip('-')}={value or 'VALUE'}"
    return f"see ray-classy {command} --help"


def _parser() -> tuple[argparse.ArgumentParser, dict[str, list[str]]]:
    """Returns the parser, and the names of each command's options."""
    parser = _Parser(
        prog="ray-classy",
        description="Trains, tunes and evaluates image and video classifiers from a config, on Ray or in one process.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ray-classy {__version__}")
    return parser, add_commands(parser)
