"""The entry point of `ray-classy`: it imports the module of the command that it is given, and little else."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from ray_classy.cli.arguments import UsageError, parsed
from ray_classy.cli.commands import COMMANDS, READ_CONFIG
from ray_classy.cli.output import Answer, json_text, stdout_to_stderr
from ray_classy.cli.streams import make_lenient, use_utf8
from ray_classy.deferred_compiler import defer_compiler
from ray_classy.display import quiet
from ray_classy.errors import ConfigError, RayClassyError
from ray_classy.garbage import no_collection
from ray_classy.printable import printable_lines
from ray_classy.redact import redacted
from ray_classy.trainer.interrupts import exit_code, interruptible


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 1 (it failed), 2 (config or usage).

    `submit` has the code of its job. A command that a signal interrupted has 128 and the
    signal's number: 130 (Ctrl-C), 143 (SIGTERM), 129 (SIGHUP).

    Args:
        argv: the words after the program's name; None takes those of this process.
    """
    if argv is not None:
        return _answered(argv)
    use_utf8()
    make_lenient()
    try:
        return _answered(sys.argv[1:])
    finally:
        gc.freeze()  # or the collector looks through all modules once more: half a second after an import of torch


def _answered(argv: Sequence[str]) -> int:
    """Runs one command, prints what it answers, and returns the exit code."""
    as_json = "--json" in argv
    try:
        with interruptible(), quiet("--quiet" in argv), stdout_to_stderr() if as_json else contextlib.nullcontext():
            answer = _run(parsed(argv))
    except KeyboardInterrupt as error:
        message = str(error) or "interrupted before the run began"
        _print_error("KeyboardInterrupt", message, as_json, prefix="ray-classy: ")
        return exit_code(error)
    except Exception as error:
        ours = _is_ours(error)
        if "--verbose" in argv or not ours:
            print(printable_lines(redacted(traceback.format_exc())), end="", file=sys.stderr)
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and not isinstance(error, RayClassyError):
            message = f"{error.filename}: {error.strerror or error}" if error.filename is not None else str(error)
        _print_error(type(error).__name__, message, as_json)
        return 2 if isinstance(error, ConfigError | UsageError) else 1
    print(
        json_text(answer.data) if as_json else printable_lines(answer.text if answer.public else redacted(answer.text)),
        flush=True,
    )
    return answer.exit_code or _lost(argv)


def _lost(argv: Sequence[str]) -> int:
    """The exit code of a command that succeeded: 1 if its result is lost, and a run is worth more than its report."""
    error = getattr(sys.stdout, "error", None)
    if error is None or isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
        return 0
    _print_error(type(error).__name__, f"standard output cannot be written: {error.strerror}", as_json=False)
    return 0 if argv[0] in ("train", "tune") else 1


def _run(arguments: argparse.Namespace) -> Answer:
    given: Any = arguments
    if arguments.command in READ_CONFIG:  # at once: the command's module imports torch and Ray, which takes seconds
        from ray_classy.cli.given import read_given

        given = read_given(arguments)
        if getattr(arguments, "print_config", False):
            from ray_classy.cli.print_config import config_text

            return config_text(given)
    module, _, function = COMMANDS[arguments.command].partition(":")
    with no_collection():
        command = getattr(importlib.import_module(module), function)
    if "torch" in sys.modules:
        defer_compiler()
    answer: Answer = command(given)
    return answer


def _is_ours(error: Exception) -> bool:
    """Whether the message alone is enough for the user; for any other error, a bug, the traceback is printed."""
    names_a_file = isinstance(error, OSError) and error.filename is not None
    return isinstance(error, RayClassyError | FloatingPointError) or names_a_file


def _print_error(kind: str, message: str, as_json: bool, prefix: str = "ray-classy: error: ") -> None:
    message = printable_lines(redacted(message))
    print(f"{prefix}{message}", file=sys.stderr, flush=True)
    if as_json:
        print(json_text({"error": {"type": kind, "message": message}}), flush=True)
