"""Reads times of a command line."""

from __future__ import annotations

import re

from ray_classy.cli.arguments import UsageError

_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")


def seconds_of(text: str) -> float:
    """Returns the seconds of `--budget`, a time such as 1h, 90m, 1h30m or 3600.

    Raises:
        UsageError: it is not a time above 0.
    """
    match = _SPAN.fullmatch(text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    found = 3600 * hours + 60 * minutes + seconds
    if found <= 0:
        raise UsageError(f"--budget must be a time such as 1h, 90m or 1h30m, not {text!r}")
    return found
