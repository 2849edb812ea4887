"""Hooks that keep a run in another program, such as MLflow: one run there per run here, also across restarts."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.config.changes import flat
from ray_classy.distributed import is_primary
from ray_classy.hooks.classy_hook import ClassyHook
from ray_classy.meters.classy_meter import scalars
from ray_classy.printable import printable
from ray_classy.redact import redacted

_log = logging.getLogger(__name__)

_MOST_WAITING = 10_000
_END_SECONDS = 60.0  # for what is still to be written


@dataclass(frozen=True)
class LoggedRun:
    """What a logger knows of the run.

    Attributes:
        name: of the run.
        path: its folder; None if it has none.
        config: the values of its config by dotted name, without secrets.
        ids: the ids that loggers gave the run when it started earlier, by the name of the logger.
        keep: keeps such an id.
    """

    name: str
    path: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    keep: Callable[[str, str], None] = lambda logger, id: None


class RunLoggerHook(ClassyHook):
    """Base of hooks that write to another program, in a thread of the primary rank.

    What fails there is one warning, and the run continues: neither a server that is gone nor a slow one stops it. At
    the end of the run, what is still to be written has a minute.

    A subclass implements `open`, `write` and `finish`, which are called in that thread.
    """

    on_step = ClassyHook._noop
    on_phase_start = ClassyHook._noop
    on_end = ClassyHook._noop
    _thread: _Thread | None = None

    @abstractmethod
    def open(self, run: LoggedRun, id: str | None) -> str:
        """Opens the run in the other program.

        Args:
            run: what is known of it.
            id: what this returned when the run started earlier; None for a new run.

        Returns:
            The id by which a later start of the run finds it.
        """

    @abstractmethod
    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes values.

        Args:
            values: by name, such as `test/accuracy.top_1` or `step/loss`.
            step: the train steps of the run.
        """

    @abstractmethod
    def finish(self, status: str, final: Mapping[str, float]) -> None:
        """Ends the run in the other program.

        Args:
            status: "finished", "failed" or "interrupted".
            final: the metrics of the last phase of each type, by name.
        """

    def begin(self, run: LoggedRun) -> None:
        """Called by the session on the primary rank when the run starts."""
        self._thread = _Thread(self, run)

    def on_start(self, task: Any) -> None:
        """Begins here, where no session has a folder for the run."""
        if is_primary() and self._thread is None:
            self.begin(LoggedRun(type(task).__name__, None, flat(task.built_from or {})))

    def on_phase_end(self, task: Any) -> None:
        """Logs the metrics of the phase."""
        if is_primary():
            self.log(task.phase_type, _numbers(task.phase_metrics()), task.num_train_steps, final=True)

    def log(self, kind: str, values: Mapping[str, float], step: int, final: bool = False) -> None:
        """Has values written.

        Args:
            kind: what they are of: "train", "test" or "step".
            values: by name.
            step: the train steps of the run.
            final: whether they are part of the summary, until the next of that kind.
        """
        if self._thread is not None:
            self._thread.add({f"{kind}/{name}": value for name, value in values.items()}, step, final)

    def end(self, status: str) -> None:
        """Called by the session when the run ends: waits until all is written, but not for long."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end(status)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the thread, which belongs to this process."""
        return {name: value for name, value in self.__dict__.items() if name != "_thread"}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a phase by dotted name, without those of each class."""
    found: dict[str, float] = dict(scalars(metrics))
    for meter, values in metrics.items():
        if isinstance(values, Mapping):
            found.update({f"{meter}.{name}": number for name, number in scalars(values).items()})
    return found


class _Thread:
    """Calls a logger's methods in a thread."""

    def __init__(self, hook: RunLoggerHook, run: LoggedRun) -> None:
        self._hook, self._run = hook, run
        self._name = type(hook).__name__
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(_MOST_WAITING)
        self._final: dict[str, float] = {}
        self._opened = self._over = self._warned = self._given_up = False
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._jobs.put(self._open)
        self._thread.start()

    def add(self, values: dict[str, float], step: int, final: bool) -> None:
        if final:
            self._final.update(values)
        try:
            self._jobs.put_nowait(lambda: self._hook.write(values, step))
        except queue.Full:
            if self._thread.is_alive():
                self._warn(f"{_MOST_WAITING} values wait to be written, and the latest are lost")

    def end(self, status: str) -> None:
        def finish() -> None:
            self._over = True
            self._hook.finish(status, self._final)

        until = time.monotonic() + _END_SECONDS
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._jobs.put(finish, timeout=_END_SECONDS)
            self._thread.join(max(until - time.monotonic(), 0.0))
        self._given_up = self._thread.is_alive()
        if self._given_up:
            self._warn(f"it has not taken the last values within {_END_SECONDS:.0f} s")

    def _open(self) -> None:
        id = self._hook.open(self._run, self._run.ids.get(self._name))
        self._opened = True
        if id != self._run.ids.get(self._name) and not self._given_up:  # else the run's record is complete
            self._run.keep(self._name, id)

    def _work(self) -> None:
        while not self._over:
            job = self._jobs.get()
            try:
                job()
            except Exception as error:
                self._warn(f"{type(error).__name__}: {error}")
                if not self._opened:
                    return
            finally:
                self._jobs.task_done()

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s: %s; the run continues without it", self._name, redacted(printable(text.splitlines()[0])))
