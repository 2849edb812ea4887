"""What follows a session: a display, or the reports to Ray."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ray_classy.trainer.progress_line import Figures

if TYPE_CHECKING:
    from ray_classy.trainer.session import FolderSession


class Listener:
    """Follows a session on every rank. The base does nothing.

    Attributes:
        watches: whether `working` and `looked` are called.
    """

    watches = False

    def working(self, what: str) -> None:
        """Called on the primary rank when it starts work other than a step, which may take a while."""

    def looked(self, figures: Figures) -> None:
        """Called on the primary rank about once a second within phases."""

    def progressed(self, figures: Figures) -> None:
        """Called on the primary rank when a line of progress is logged."""

    def starting(self, session: FolderSession) -> None:
        """Called before the session reads a checkpoint."""

    def started(self, session: FolderSession) -> None:
        """Called when the session has found the state to resume from."""

    def wants_checkpoint(self) -> bool:
        """Whether a checkpoint must be written as soon as possible; asked about once a second, of the primary rank."""
        return False

    def reported(self, metrics: dict[str, Any], checkpoint: str | None, written: Future[None]) -> None:
        """Called after each round.

        Args:
            metrics: nested; plain values.
            checkpoint: name of the checkpoint of the round's end, if there is one.
            written: done when that checkpoint is written.
        """

    def stopped(self) -> None:
        """Called when the run stops on request, and its checkpoint is written."""
