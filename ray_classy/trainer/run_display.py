"""What a run does, at the bottom of the terminal in which it was started."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ray_classy.display import LiveDisplay, duration, is_quiet, on_terminal
from ray_classy.printable import printable
from ray_classy.trainer.figures import Figures
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.logs import PROGRESS, has_own_logging
from ray_classy.trainer.progress_file import SECONDS_BETWEEN_WRITES, read_progress, remove_progress
from ray_classy.trainer.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_UPDATES = 0.5
_BAR_WIDTH = 30


class RunDisplay(Listener):
    """Shows the current phase, or what the run does before its first step; it is updated until `close`.

    Args:
        display: shows it.
    """

    watches = True

    def __init__(self, display: LiveDisplay | None = None) -> None:
        self._display = display or LiveDisplay()
        self._what, self._since = "starting", time.monotonic()
        self._figures: Figures | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._update, name="display", daemon=True)
        self._thread.start()

    def working(self, what: str) -> None:
        """Shows what the run does, and for how long it has."""
        if what != self._what or self._figures is not None:
            self._what, self._since, self._figures = what, time.monotonic(), None

    def looked(self, figures: Figures) -> None:
        """Shows the figures of the phase."""
        self._figures = figures

    @contextlib.contextmanager
    def following(self, folder: RunFolder) -> Iterator[None]:
        """Shows for a block what the primary rank writes into the run's folder, on whatever node it is."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(SECONDS_BETWEEN_WRITES[folder.storage.local]):
                found = read_progress(folder.storage)
                if isinstance(found, str):
                    self.working(found)
                elif found is not None:
                    self.looked(found)

        remove_progress(folder.storage)  # of an earlier start
        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            remove_progress(folder.storage)

    def close(self) -> None:
        """Removes the display."""
        self._over.set()
        self._thread.join()
        self._display.close()

    def _update(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_UPDATES):
            self._display.draw(lambda columns, lines: self.render(columns))

    def render(self, columns: int) -> RenderableType:
        """Renders what is shown.

        Args:
            columns: of the terminal.
        """
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        figures = self._figures
        if figures is None:
            return Text(f"{printable(self._what)} ... {duration(time.monotonic() - self._since)}", style="cyan")
        head = Table.grid(padding=(0, 2, 0, 0))
        row: list[Any] = [Text(figures.title, style="bold cyan")]
        if figures.steps:
            row.append(ProgressBar(figures.steps, figures.step, width=min(_BAR_WIDTH, max(columns // 4, 5))))
        head.add_row(*row, Text(f"{figures.where:.0%} of the run"))
        return Group(head, Text("  ".join(figures.parts())))


@contextlib.contextmanager
def show_run() -> Iterator[RunDisplay | None]:
    """A display for the block, on a terminal; None elsewhere, and where the program has logging of its own."""
    if not on_terminal() or is_quiet() or has_own_logging():
        yield None
        return
    display = RunDisplay()
    try:
        yield display
    finally:
        display.close()


def say(display: RunDisplay | None, what: str, log: bool = True) -> None:
    """Says what a run does before its first step: on its display, and in a line where there is none.

    Args:
        display: of the run.
        what: it does.
        log: whether it takes long enough for a line.
    """
    if display is not None:
        display.working(what)
    elif log:
        _log.info("%s", what, extra=PROGRESS)
