"""The one path that commands on finished work take."""

from __future__ import annotations

import argparse

from ray_classy.cli.arguments import UsageError


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
