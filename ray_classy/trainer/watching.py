"""What the primary rank says of a run between its first step and its last: log, `steps.jsonl`, loggers, listeners."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ray_classy.hooks.run_logger_hook import RunLoggerHook
from ray_classy.tasks import ClassyTask
from ray_classy.trainer.heartbeat import NO_STEP, SO_FAR, Heartbeat
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.logs import PROGRESS
from ray_classy.trainer.progress import Progress
from ray_classy.trainer.progress_line import Figures
from ray_classy.trainer.run_folder import RunFolder

_log = logging.getLogger(__name__)


class Watching:
    """Follows the loop on the primary rank.

    Args:
        task: is trained.
        run: its folder.
        listeners: of the session.
        loggers: of the task.
    """

    def __init__(
        self, task: ClassyTask, run: RunFolder, listeners: Sequence[Listener], loggers: Sequence[RunLoggerHook]
    ) -> None:
        self._run, self._listeners, self._loggers = run, listeners, loggers
        self._watchers = [listener for listener in listeners if listener.watches]
        self._progress = Progress(task, self._due, self._looked if self._watchers else None)
        seconds = task.log_every.seconds
        self._heartbeat = Heartbeat(seconds) if seconds is not None else None

    def working(self, what: str) -> None:
        """Says what the run does besides steps, which may take a while."""
        if self._heartbeat is not None:
            self._heartbeat.beat(lambda: what, SO_FAR)
        for listener in self._watchers:
            listener.working(what)

    def phase_started(self) -> None:
        """Begins to measure a phase."""
        self._progress.phase_started()
        self._beat()

    def step_ended(self) -> None:
        """Measures a step."""
        self._progress.step_ended()
        self._beat()

    def phase_ended(self) -> None:
        """Ends to measure a phase."""
        self._progress.phase_ended()

    def close(self) -> None:
        """Says no more."""
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def _beat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.beat(self._progress.title, NO_STEP)

    def _due(self, figures: Figures) -> None:
        _log.info("%s", figures.line(), extra=PROGRESS)
        if self._heartbeat is not None:
            self._heartbeat.line()
        self._run.steps.add(figures)
        for hook in self._loggers:
            hook.log("step", figures.values(), figures.train_step)
        for listener in self._listeners:
            listener.progressed(figures)

    def _looked(self, figures: Figures) -> None:
        for listener in self._watchers:
            listener.looked(figures)
