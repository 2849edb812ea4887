"""The command line of `ray-classy`, and which keys of a config its flags are short for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ray_classy import __version__
from ray_classy.errors import RayClassyError
from ray_classy.registry import nearest

# What a flag sets in the config.
FLAG_KEYS: dict[str, tuple[str, ...]] = {
    "num_workers": ("ray", "num_workers"),
    "use_gpu": ("ray", "use_gpu"),
    "storage_path": ("ray", "storage_path"),
    "name": ("ray", "name"),
    "address": ("ray", "address"),
    "checkpoint": ("checkpoint",),
    "num_samples": ("tune", "num_samples"),
}

_WORDS = "the config file, then overrides such as optimizer.lr=0.01 or dataset.train.num_samples=100"
_CONFIG = ("CONFIG [key=value ...]", _WORDS)
_NUMBER: dict[str, Any] = {"type": int, "metavar": "N"}
_EXAMPLES = """examples:
  ray-classy train configs/digits.yaml --num-workers 2 num_epochs=3
  ray-classy train --resume runs/20260102-030405-ab12 num_epochs=20
  ray-classy train configs/digits.yaml test_only=true --checkpoint runs/20260102-030405-ab12
  ray-classy tune configs/sweeps/asha.yaml --num-samples 12
  ray-classy check configs/digits.yaml
  ray-classy bench-data configs/digits.yaml
  ray-classy list optimizer
"""


class UsageError(RayClassyError, ValueError):
    """The command line itself is wrong."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line says; words and flags may stand in any order.

    Raises:
        UsageError: it says something it must not.
        SystemExit: after --help and --version.
    """
    parser, options = _parser()
    arguments, rest = parser.parse_known_args(list(argv))
    for word in rest:
        if word.startswith("-"):
            near = nearest(word.partition("=")[0], options[arguments.command])
            hint = f"did you mean {near}?" if near else f"see ray-classy {arguments.command} --help"
            raise UsageError(f"unknown option {word!r}: {hint}")
    arguments.words += rest
    return arguments


def _parser() -> tuple[argparse.ArgumentParser, dict[str, list[str]]]:
    """The parser, and the options of each command."""
    parser = _Parser(
        prog="ray-classy",
        description="Trains and evaluates image classifiers from one config file, on a Ray cluster or in one process.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ray-classy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options: dict[str, list[str]] = {}

    def command(name: str, text: str, words: str, words_help: str) -> Any:
        added = commands.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
        added.add_argument("words", nargs="*", metavar=words, help=words_help)
        options[name] = []

        def option(flag: str, help: str, **more: Any) -> None:
            added.add_argument(flag, help=help, **more)
            options[name].append(flag)

        return option

    for name, text in (
        ("train", "train, resume or evaluate what a config describes"),
        ("check", "check a config, and say what training it would do and need; nothing is started"),
    ):
        option = command(name, text, *_CONFIG)
        option("--num-workers", "processes to train in (ray.num_workers)", **_NUMBER)
        option("--use-gpu", "give each worker a GPU (ray.use_gpu)", action="store_true", default=None)
        option("--storage-path", "the folder of runs, or a URL; default: runs (ray.storage_path)", metavar="PATH")
        option("--name", "the run's name; default: one made from the time (ray.name)")
        option("--resume", "go on with this run; without CONFIG, with the run's own config", metavar="RUN")
        option("--checkpoint", "start from a checkpoint, or from the latest one of a run (checkpoint)", metavar="PATH")
        option("--address", "of the Ray cluster; default: RAY_ADDRESS, else a local Ray (ray.address)")
        option("--local", "train in this process, without Ray", action="store_true")
        option("--json", "print one JSON object on standard output and nothing else", action="store_true")
        option("--verbose", "show what Ray prints, and tracebacks of errors", action="store_true")
    option = command("tune", "search over a config in which search nodes stand for some values", *_CONFIG)
    option("--num-samples", "trials, each grid in full; with --extend, how many more (tune.num_samples)", **_NUMBER)
    option("--num-workers", "processes of each trial (ray.num_workers)", **_NUMBER)
    option("--use-gpu", "give each worker a GPU (ray.use_gpu)", action="store_true", default=None)
    option("--storage-path", "the folder of sweeps, or a URL; default: runs (ray.storage_path)", metavar="PATH")
    option("--name", "the sweep's name; default: one made from the time (ray.name)")
    option("--resume", "go on with this sweep; no trial that has ended runs again", metavar="RUN")
    option("--extend", "add --num-samples trials to this sweep, or train its best to num_epochs=N", metavar="RUN")
    option("--best", "with --extend and num_epochs=N, how many of the best trials; default: 3", default=3, **_NUMBER)
    option("--address", "of the Ray cluster; default: RAY_ADDRESS, else a local Ray (ray.address)")
    option("--json", "print one JSON object on standard output and nothing else", action="store_true")
    option("--verbose", "show what Ray prints, and tracebacks of errors", action="store_true")
    option = command("bench-data", "measure how fast a config's data are read, and name what holds them up", *_CONFIG)
    option("--rows", "how many rows of each dataset are read in each way; default: 2000", default=2000, **_NUMBER)
    option("--json", "print one JSON object on standard output and nothing else", action="store_true")
    option("--verbose", "show tracebacks of errors", action="store_true")
    for name, text, word, what in (
        ("ls", "list the checkpoints of a run", "RUN", "the run's folder, local or a URL"),
        ("show", "show what is in a checkpoint, and whether its file is what was written", "CHECKPOINT", "or a run"),
    ):
        option = command(name, text, word, what)
        option("--json", "print one JSON object on standard output and nothing else", action="store_true")
        option("--verbose", "show tracebacks of errors", action="store_true")
    option = command("list", "show components with their keys and defaults", "KIND [NAME]", "such as: model resnet")
    option("--verbose", "show tracebacks of errors", action="store_true")
    return parser, options
