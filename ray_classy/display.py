"""Text for terminals: tables, and progress on standard error that is replaced in place, or plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from ray_classy.printable import printable
from ray_classy.redact import redacted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live


def on_terminal() -> bool:
    """Whether standard error is a terminal in which text can be replaced."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


_MOST_RATES = 3  # in a line
_quiet = False


def is_quiet() -> bool:
    """Whether nothing but errors is printed on standard error."""
    return _quiet


@contextlib.contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """Has nothing but errors printed on standard error for a block; what is logged into files stays as it is."""
    global _quiet
    before, _quiet = _quiet, on or _quiet
    try:
        yield
    finally:
        _quiet = before


def print_line(text: str) -> None:
    """Prints a line on standard error, after the time of day."""
    if _quiet:
        return
    print(f"{time.strftime('%H:%M:%S')}  {printable(redacted(text))}", file=sys.stderr, flush=True)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as plain text: a header and rows with as many cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def duration(seconds: float) -> str:
    """Returns a time in seconds, minutes or hours, for a screen."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rates_text(rates: list[float]) -> str:
    """Returns learning rates of a few parameter groups, or the smallest and the largest of many."""
    if len(set(rates)) == 1:
        return f"{rates[0]:.3g}"
    if len(rates) <= _MOST_RATES:
        return ", ".join(f"{rate:.3g}" for rate in rates)
    return f"{min(rates):.3g} to {max(rates):.3g}"


def short(path: str) -> str:
    """Returns a path relative to the working directory if it is inside it, else the path itself."""
    inside = os.path.isabs(path) and os.path.commonpath([path, os.getcwd()]) == os.getcwd()
    return os.path.relpath(path) if inside else path


class LiveDisplay:
    """Shows what rich renders at the bottom of the terminal until `close`.

    What is printed on standard error meanwhile appears above it.

    Args:
        file: the terminal; None takes standard error.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._live: Live | None = None

    def draw(self, render: Callable[[int, int], RenderableType]) -> None:
        """Replaces what is shown.

        Args:
            render: called with the columns and the lines that there are.
        """
        live = self._live or self._open()
        size = live.console.size
        live.update(render(size.width, size.height), refresh=True)

    def _open(self) -> Live:
        from rich.console import Console  # costs a tenth of a second, which runs without a terminal need not spend
        from rich.live import Live

        console = Console(file=self._file, stderr=self._file is None, force_terminal=True, force_jupyter=False)
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()
        return self._live

    def close(self) -> None:
        """Removes the display; further calls do nothing."""
        if self._live is not None:
            self._live.stop()
            self._live = None
