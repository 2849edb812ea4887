"""What the process that waits for a run says of it: at the bottom of its terminal, or in lines."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ray_classy.display import LiveDisplay, duration, is_quiet, on_terminal
from ray_classy.hooks import ProgressBarHook
from ray_classy.printable import printable
from ray_classy.tasks import ClassyTask
from ray_classy.trainer.heartbeat import SO_FAR, Heartbeat
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.logs import PROGRESS, has_own_logging
from ray_classy.trainer.progress_file import SECONDS_BETWEEN_WRITES, read_progress, remove_progress
from ray_classy.trainer.progress_line import Figures
from ray_classy.trainer.repeating import repeating
from ray_classy.trainer.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ray_classy.trainer.session import FolderSession

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_UPDATES = 0.5
_SECONDS_OF_NEWS = 10.0
_BAR_WIDTH = 30


class RunView(Listener):
    """Says what a run does: the base of a display and of lines.

    Attributes:
        displayed: whether the progress is displayed, so that its lines need not be printed.
    """

    displayed = False

    def working(self, what: str, line: bool = False) -> None:
        """Says what the run does besides steps, which may take a while.

        Args:
            what: it does.
            line: whether it takes long enough for a line at once.
        """

    def heard(self) -> None:
        """Called when the workers have logged lines."""

    def close(self) -> None:
        """Says no more."""


class RunLines(RunView):
    """Logs what a run does before its first step, and again while that takes long.

    Args:
        seconds: between such lines; None for no further ones.
    """

    def __init__(self, seconds: float | None) -> None:
        self._heartbeat = None if seconds is None else Heartbeat(seconds)

    def working(self, what: str, line: bool = False) -> None:
        """Logs it at once, or when it has taken long."""
        if line:
            _log.info("%s", what, extra=PROGRESS)
        if self._heartbeat is not None:
            self._heartbeat.beat(lambda: what, SO_FAR)
            if line:
                self._heartbeat.line()

    def starting(self, session: FolderSession) -> None:
        """The session says what it does."""
        self.close()

    def heard(self) -> None:
        """The workers say what they do."""
        self.close()

    def close(self) -> None:
        """Logs no more."""
        if self._heartbeat is not None:
            self._heartbeat.stop()


class RunDisplay(RunView):
    """Shows the current phase, or what the run does before its first step; it is updated until `close`.

    Args:
        display: shows it.
    """

    watches = displayed = True

    def __init__(self, display: LiveDisplay | None = None) -> None:
        self._display = display or LiveDisplay()
        self._what, self._since = "starting", time.monotonic()
        self._figures: Figures | None = None
        self._drawing = contextlib.ExitStack()
        self._drawing.enter_context(repeating(self._draw, _SECONDS_BETWEEN_UPDATES, "display"))

    def working(self, what: str, line: bool = False) -> None:
        """Shows what the run does, and for how long it has."""
        if what != self._what or self._figures is not None:
            self._what, self._since, self._figures = what, time.monotonic(), None

    def looked(self, figures: Figures) -> None:
        """Shows the figures of the phase."""
        if figures != self._figures:
            self._figures, self._since = figures, time.monotonic()

    def show(self, found: Figures | str | None) -> None:
        """Shows what a file of progress says, if it says anything."""
        if isinstance(found, str):
            self.working(found)
        elif found is not None:
            self.looked(found)

    @contextlib.contextmanager
    def following(self, folder: RunFolder) -> Iterator[None]:
        """Shows for a block what the primary rank writes into the run's folder, on whatever node it is."""
        storage = folder.storage
        remove_progress(storage)  # of an earlier start
        try:
            seconds = SECONDS_BETWEEN_WRITES[storage.local]
            with repeating(lambda: self.show(read_progress(storage)), seconds, "progress"):
                yield
        finally:
            remove_progress(storage)

    def close(self) -> None:
        """Removes the display."""
        self._drawing.close()
        self._display.close()

    def _draw(self) -> None:
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
        parts, seconds = figures.parts(), time.monotonic() - self._since
        if seconds >= _SECONDS_OF_NEWS:
            parts.append(f"no news for {duration(seconds)}")
        return Group(head, Text("  ".join(parts)))


@contextlib.contextmanager
def show_run(task: ClassyTask, here: bool = True) -> Iterator[RunView]:
    """A display for the block, on a terminal; elsewhere, and where the program has logging of its own, lines.

    Args:
        task: is trained; one with the hook progress_bar draws another display.
        here: whether it is trained in this process.
    """
    bar = here and any(isinstance(hook, ProgressBarHook) for hook in task.hooks)
    lines = not on_terminal() or is_quiet() or has_own_logging() or bar
    view = RunLines(task.log_every.seconds) if lines else RunDisplay()
    try:
        yield view
    finally:
        view.close()
