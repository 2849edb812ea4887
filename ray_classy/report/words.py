"""Numbers and dates as a reader who is not an expert reads them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

MOST_TEXT = 80  # characters of a name


def percent(share: float) -> str:
    """A share in [0, 1] with one decimal, as `93.4 %` on one line."""
    return f"{100 * share:.1f}\u00a0%"


def number(value: Any) -> str:
    """A number with at most four digits after the point, or another value as it is; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shortened(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def setting(value: Any, digits: int = 6) -> str:
    """A value of a config, as it is written there, with so many significant digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.{digits}g}" if isinstance(value, float) else shortened(str(value))


def count(amount: int, singular: str, plural: str | None = None) -> str:
    """`1 image`, `1,437 images`."""
    return f"{amount:,} {singular if amount == 1 else plural or f'{singular}s'}"


def worker_time(seconds: float) -> str:
    """A sum of the time of workers: worker-seconds, worker-minutes or worker-hours."""
    if seconds < 90:
        return count(round(seconds), "worker-second")
    return f"{seconds / 60:.0f} worker-minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} worker-hours"


def date_text(at: Any) -> str:
    """The date and time of a record, to the minute; empty if it cannot be read."""
    when = moment(at)
    return "" if when is None else f"{when.day} {when:%B %Y, %H:%M}"


def moment(at: Any) -> datetime | None:
    """The time that a record gives as `2026-11-27T18:52:56+0000`."""
    try:
        return datetime.strptime(at, "%Y-%m-%dT%H:%M:%S%z")
    except (TypeError, ValueError):
        return None


def shortened(text: str, most: int = MOST_TEXT) -> str:
    """A text of at most so many characters; of a longer one the end, where paths differ."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


def metric_name(name: str) -> str:
    """A dotted metric in words: `test.accuracy.top_1` is "accuracy, top 1 (test)"."""
    phase, _, rest = name.partition(".")
    if phase not in ("train", "test") or not rest:
        return name
    return f"{rest.replace('.', ', ').replace('_', ' ')} ({phase})"


def titled(text: str) -> str:
    """A text with a capital at its beginning."""
    return text[:1].upper() + text[1:]
