"""The one path that commands on finished work take, and the errors of reading it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from ray_classy.cli.arguments import UsageError
from ray_classy.errors import RayClassyError, RunFolderError
from ray_classy.urls import reason, shown


def path_in(arguments: argparse.Namespace, what: str) -> str:
    """Returns the only word of a command line.

    Args:
        arguments: the command line.
        what: what the path leads to, for the message.

    Raises:
        UsageError: there is not exactly one word.
    """
    if len(arguments.words) != 1:
        raise UsageError(f"{arguments.command} takes one word, {what}; see ray-classy {arguments.command} --help")
    return str(arguments.words[0])


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns the errors of a disk or a store, in the block, into one that names the path or URL.

    Raises:
        RunFolderError: the path cannot be read.
    """
    try:
        yield
    except RayClassyError:
        raise
    except OSError as error:
        file = error.filename if isinstance(error.filename, str) else path
        raise RunFolderError(f"{shown(file)!r} cannot be read: {error.strerror or reason(error)}") from error
