"""The entry point of `ray-classy`. It imports next to nothing; a command imports what it needs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from ray_classy.cli.arguments import UsageError, parsed
from ray_classy.cli.output import Answer, json_text, stdout_to_stderr
from ray_classy.errors import ConfigError, RayClassyError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 1 (it failed), 2 (config or usage), 130 (interrupted).

    Args:
        argv: the words after the program's name; None takes those of the process.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    as_json = "--json" in argv
    try:
        with stdout_to_stderr() if as_json else contextlib.nullcontext():
            answer = _run(parsed(argv))
    except KeyboardInterrupt as error:
        how = f"; go on with: {error}" if str(error) else " before the run began"
        _tell_error("KeyboardInterrupt", f"interrupted{how}", as_json, prefix="ray-classy: ")
        return 130
    except Exception as error:
        ours = _is_ours(error)
        if "--verbose" in argv or not ours:
            traceback.print_exc()
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and not isinstance(error, RayClassyError):
            message = f"{error.filename}: {error.strerror or error}"
        _tell_error(type(error).__name__, message, as_json)
        return 2 if isinstance(error, ConfigError | UsageError) else 1
    try:
        print(json_text(answer.data) if as_json else answer.text, flush=True)
    except BrokenPipeError:  # whoever reads it, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(arguments: argparse.Namespace) -> Answer:
    if arguments.command == "list":
        from ray_classy.cli.listing import listing

        return listing(arguments)
    if arguments.command in ("ls", "show"):
        from ray_classy.cli.checkpoints import ls, show

        return ls(arguments) if arguments.command == "ls" else show(arguments)
    if arguments.command == "tune":
        from ray_classy.cli.tune import tune

        return tune(arguments)
    from ray_classy.cli.given import read_given

    given = read_given(arguments)  # the commands import torch and Ray, which takes seconds
    if arguments.command == "train":
        from ray_classy.cli.train import train

        return train(given)
    if arguments.command == "bench-data":
        from ray_classy.cli.bench_data import bench_data

        return bench_data(given)
    from ray_classy.cli.check import check

    return check(given)


def _is_ours(error: Exception) -> bool:
    """Whether the message alone says all there is to say; of others, our own bugs, the traceback is shown."""
    told_by_name = isinstance(error, OSError) and error.filename is not None
    return isinstance(error, RayClassyError | FloatingPointError) or told_by_name


def _tell_error(kind: str, message: str, as_json: bool, prefix: str = "ray-classy: error: ") -> None:
    print(f"{prefix}{message}", file=sys.stderr, flush=True)
    if as_json:
        print(json_text({"error": {"type": kind, "message": message}}), flush=True)
