"""The entry point of `ray-classy`: it imports the module of the command that it is given, and little else."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from ray_classy.cli.arguments import UsageError, parsed
from ray_classy.cli.output import Answer, json_text, stdout_to_stderr
from ray_classy.errors import ConfigError, RayClassyError
from ray_classy.printable import printable_lines
from ray_classy.redact import redacted

COMMANDS = {
    "train": "ray_classy.cli.train:train",
    "check": "ray_classy.cli.check:check",
    "tune": "ray_classy.cli.tune:tune",
    "bench-data": "ray_classy.cli.bench_data:bench_data",
    "ls": "ray_classy.cli.ls:ls",
    "show": "ray_classy.cli.show:show",
    "list": "ray_classy.cli.list:list_components",
}
"""The function of each command, "module:function"."""
READ_CONFIG = ("train", "check", "bench-data")
"""Commands whose function takes the config that the command line gives, not the command line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 1 (it failed), 2 (config or usage), 130 (interrupted).

    Args:
        argv: the words after the program's name; None takes those of this process.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    as_json = "--json" in argv
    try:
        with stdout_to_stderr() if as_json else contextlib.nullcontext():
            answer = _run(parsed(argv))
    except KeyboardInterrupt as error:
        how = f"; resume with: {error}" if str(error) else " before the run began"
        _print_error("KeyboardInterrupt", f"interrupted{how}", as_json, prefix="ray-classy: ")
        return 130
    except Exception as error:
        ours = _is_ours(error)
        if "--verbose" in argv or not ours:
            print(printable_lines(redacted(traceback.format_exc())), end="", file=sys.stderr)
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and not isinstance(error, RayClassyError):
            message = f"{error.filename}: {error.strerror or error}"
        _print_error(type(error).__name__, message, as_json)
        return 2 if isinstance(error, ConfigError | UsageError) else 1
    try:
        print(json_text(answer.data) if as_json else printable_lines(redacted(answer.text)), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(arguments: argparse.Namespace) -> Answer:
    given: Any = arguments
    if arguments.command in READ_CONFIG:  # at once: the command's module imports torch and Ray, which takes seconds
        from ray_classy.cli.given import read_given

        given = read_given(arguments)
    module, _, function = COMMANDS[arguments.command].partition(":")
    return getattr(importlib.import_module(module), function)(given)


def _is_ours(error: Exception) -> bool:
    """Whether the message alone is enough for the user; for any other error, a bug, the traceback is printed."""
    names_a_file = isinstance(error, OSError) and error.filename is not None
    return isinstance(error, RayClassyError | FloatingPointError) or names_a_file


def _print_error(kind: str, message: str, as_json: bool, prefix: str = "ray-classy: error: ") -> None:
    message = printable_lines(redacted(message))
    print(f"{prefix}{message}", file=sys.stderr, flush=True)
    if as_json:
        print(json_text({"error": {"type": kind, "message": message}}), flush=True)
