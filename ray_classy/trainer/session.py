"""What a run is to the loop: where its state comes from and where its results go.

The loop is the same in one process, under torchrun, on Ray workers and in a trial of a sweep; what differs is the
`Session` that it is given, and who listens to it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from ray_classy.checkpoint import save_checkpoint
from ray_classy.distributed import barrier, broadcast_object, gather_objects, get_world_size, is_primary
from ray_classy.errors import RayClassyError, RunStopped
from ray_classy.hooks import CheckpointHook
from ray_classy.hooks.run_logger_hook import RunLoggerHook
from ray_classy.seeding import get_rng_state
from ray_classy.storage import retry_once
from ray_classy.tasks import ClassyTask
from ray_classy.tasks.phases import ends_round, inside_round
from ray_classy.trainer.agreement import Agreement
from ray_classy.trainer.checkpoint_content import checkpoint_content, checkpoint_facts, name_at_end, name_inside
from ray_classy.trainer.checkpoint_writer import CheckpointWriter, host_copy
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.metrics_line import early_end, phase_line, position
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_loggers import logged_run
from ray_classy.trainer.run_metrics import latest_by_phase_type, train_phase_of
from ray_classy.trainer.run_steps import train_steps_of
from ray_classy.trainer.storage_failures import explain_storage_errors
from ray_classy.trainer.watching import Watching
from ray_classy.urls import shown

_log = logging.getLogger(__name__)

CHECKPOINT, STOP = 1, 2  # what the primary rank may want
_SECONDS_BETWEEN_LOOKS = 5.0

Latest = tuple[str, dict[str, Any]]
"""The name of a checkpoint and its content."""


class Session:
    """A run without a folder: it keeps nothing. The base of the others.

    Attributes:
        writes_checkpoints: whether it writes those that are due.
    """

    writes_checkpoints = False
    loggers: Sequence[RunLoggerHook] = ()

    def start(self, task: ClassyTask) -> dict[str, Any] | None:
        """Called before the task is prepared; returns the content of the checkpoint to resume from, if there is one."""
        task.wanted_period = task.stopped_early = None  # of an earlier run
        for hook in task.hooks:
            if isinstance(hook, CheckpointHook):
                hook.trainer_writes = self.writes_checkpoints
        self.loggers = [hook for hook in task.hooks if isinstance(hook, RunLoggerHook)] if is_primary() else []
        return None

    def phase_started(self, task: ClassyTask) -> None:
        """Called when a phase has begun."""

    def step_ended(self, task: ClassyTask) -> None:
        """Called after each step."""

    def phase_ended(self, task: ClassyTask) -> dict[str, Any] | None:
        """Called after each phase; returns the report of the round, if the phase ends one."""
        return None

    def close(self, error: BaseException | None = None) -> None:
        """Called when the loop ends, also by an error; waits for the loggers, but not for long."""
        for hook in self.loggers:
            hook.end(_ending(error))


def _ending(error: BaseException | None) -> str:
    if error is None:
        return "finished"
    return "interrupted" if isinstance(error, KeyboardInterrupt | GeneratorExit | RunStopped) else "failed"


class FolderSession(Session):
    """A run that keeps its metrics and checkpoints in a run folder.

    Args:
        run: the folder.
        retention: which checkpoints are kept; None keeps all, without the aliases `last` and `best`.
        ranks: the largest number of ranks of an elastic run; None otherwise.
        waits: whether training waits for each checkpoint to be written.
        latest: the newest checkpoint, if this process has read it already.
        listeners: follow the session.
    """

    writes_checkpoints = True

    def __init__(
        self,
        run: RunFolder,
        retention: Retention | None = None,
        ranks: int | None = None,
        waits: bool = False,
        latest: Latest | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.run = run
        self.retention = retention
        self.ranks = ranks
        self.waits = waits
        self.began: tuple[int, str | None] = (0, None)  # train phases of whole rounds before the start; its checkpoint
        self._read = latest
        self._listeners = listeners
        self._round: list[dict[str, Any]] = []
        self._watching: Watching | None = None  # on the primary rank
        self._phase_began = time.time()
        self._agreement = Agreement(self._asked)
        self._writer = CheckpointWriter()
        self._minutes: float | None = None
        self._config: dict[str, Any] = {}
        self._written = self._looked = time.monotonic()
        self._stop_asked = False  # in this process; other processes leave a file in the folder
        self._due = self._stopping = False  # what is to be done at the next step at which a checkpoint can be written
        self._update_rows: dict[str, int] | None = None
        self._inside: str | None = None  # the last checkpoint inside a phase, which the next checkpoint replaces

    def start(self, task: ClassyTask) -> dict[str, Any] | None:
        """Reads the newest checkpoint of the folder, and drops the metrics of the phases after it."""
        super().start(task)
        self._watching = Watching(task, self.run, self._listeners, self.loggers) if is_primary() else None
        for listener in self._listeners:
            listener.starting(self)
        if self._watching is not None:
            self._watching.working("reading the last checkpoint, if there is one")
        name, content = self._latest(task)
        epoch, tested, halfway = 0, False, False
        if name is not None and content is not None:
            task.check_resume(content, self.run.storage.join(name))
            state = content["classy_state_dict"]
            counted = (content.get("ray_classy") or {}).get("counters") or {}
            train_phase_idx = state.get("train_phase_idx", counted.get("train_phase_idx", -1))
            epoch, tested = train_phase_idx + 1, not state.get("train", counted.get("train", True))
            if state.get("in_phase") is not None:
                epoch, tested, self._inside = epoch - 1, True, name
            else:
                halfway = inside_round(task.planned_phases(), train_phase_idx, not tested)
            _log.info("resuming from %s", shown(self.run.storage.join(name)))
        self.began = (epoch - halfway, name)
        if is_primary():
            aside = self.run.metrics.set_aside() if name is None else None
            if aside is not None:
                _log.warning(
                    "the run has no checkpoint: it starts from the beginning; its metrics so far are in %s", aside
                )
            self.run.metrics.keep_until(epoch, tested)
            self.run.steps.keep_until(0 if content is None else train_steps_of(content))
            ranks = get_world_size()
            _log.info("run %s on %d process%s", self.run.name, ranks, "" if ranks == 1 else "es")
            note = task.resume_note(content) if content is not None else None
            if note is not None:
                _log.info("%s", note)
            for line in task.data_notes():
                _log.info("%s", line)
            if name is not None:
                with contextlib.suppress(OSError):  # it is only shown
                    self.run.record.resumed(name)
            self._config = self.run.record.config_facts()
            self.run.requests.forget_checkpoint()
        if halfway:  # the report of the round has the metrics of the train phase too
            lines = self.run.metrics.lines() if is_primary() else []
            self._round = broadcast_object([line for line in lines if train_phase_of(line) == epoch])
        before = ((content or {}).get("ray_classy") or {}).get("update_rows")
        self._update_rows = task.keep_update_rows(before, self.ranks)
        self._phase_began = time.time()
        # By the clock, each run would write at another step, and replicas are re-created at a checkpoint.
        self._minutes = None if task.deterministic else task.checkpoint_every.minutes
        for listener in self._listeners:
            listener.started(self)
        for hook in self.loggers:
            hook.begin(logged_run(self.run, self._config.get("config") or task.built_from))
        if self._watching is not None:
            self._watching.working("preparing the model and the data")
        return content

    def _latest(self, task: ClassyTask) -> tuple[str | None, dict[str, Any] | None]:
        """Name and content of the checkpoint to resume from, the same on every rank; None if there is none."""
        answer: Any = None  # a name, none, or what is wrong
        read, self._read = self._read, None
        content: dict[str, Any] | None = None
        if is_primary():
            try:
                if read is not None and self.run.checkpoints.names()[-1:] != [read[0]]:
                    read = None  # the folder was not locked when it was read, and its former owner wrote another one
                answer, content = read or self.run.checkpoints.load_latest(task.check_state) or (None, None)
            except (RayClassyError, OSError) as error:  # every rank raises it: no rank waits for an answer
                answer = error
        answer = broadcast_object(answer)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None and not is_primary():
            content = read[1] if read is not None and read[0] == answer else self.run.checkpoints.load(answer)
        return answer, content

    def phase_started(self, task: ClassyTask) -> None:
        """Begins to measure the phase."""
        if self._watching is not None:
            self._watching.phase_started()

    def step_ended(self, task: ClassyTask) -> None:
        """Logs the progress and, inside train phases, writes a checkpoint, each if it is due.

        Raises:
            RunStopped: the run is asked to stop, and a checkpoint is written.
        """
        if self._watching is not None:
            self._watching.step_ended()
        if not task.train:
            return
        answer = self._agreement.after_step()
        if answer:
            self._hear(answer)
        steps = task.checkpoint_every.steps
        self._due = self._due or (steps is not None and task.num_train_steps % steps == 0)
        if not (self._due or self._stopping) or not task.can_pause:
            return
        name = name_inside(task)
        self._write(name, task, task.get_phase_state())
        self._stop_if_asked(name)

    def ask_to_stop(self) -> None:
        """Asks the run to write a checkpoint and stop; a signal handler may call it, on any rank."""
        self._stop_asked = True
        if not is_primary():
            self.run.requests.stop()

    def _asked(self) -> int:
        """What the primary rank wants all ranks to do."""
        self._writer.check()  # a run whose state cannot be kept must not continue until its next checkpoint
        waited = time.monotonic() - self._written
        due = self._minutes is not None and waited >= self._minutes * 60
        due = due or any(listener.wants_checkpoint() for listener in self._listeners)
        return self._requested() or (CHECKPOINT if due else 0)

    def _requested(self) -> int:
        """What the run's folder asks for; a folder in a store is looked into less often, for it takes a while."""
        if self._stop_asked:
            return STOP
        now = time.monotonic()
        if not self.run.storage.local and now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return 0
        self._looked = now
        try:
            requests = self.run.requests
            return STOP if requests.stop_requested() else CHECKPOINT if requests.checkpoint_requested() else 0
        except OSError as error:  # a store that fails for a moment
            _log.debug("what the run is asked to do cannot be read: %s", error)
            return 0

    def _hear(self, answer: int) -> None:
        self._due = self._due or answer == CHECKPOINT
        self._stopping = self._stopping or answer == STOP

    def _write(
        self, name: str, task: ClassyTask, in_phase: dict[str, Any] | None, hooks: Sequence[CheckpointHook] = ()
    ) -> None:
        """Begins to write a checkpoint; the one before it, if it was written inside a phase, is removed afterwards.

        Args:
            name: of the checkpoint.
            task: its state is copied.
            in_phase: the state of the phase, if it is not over.
            hooks: publish a copy each.
        """
        generators = gather_objects(get_rng_state())
        state = task.gather_state()
        if state is not None:
            self._writer.wait()  # so that one copy is in memory, not two
            content = host_copy(checkpoint_content(task, generators, state))
            content["ray_classy"]["update_rows"] = self._update_rows
            if in_phase is not None:
                content["classy_state_dict"]["in_phase"] = in_phase
            old = None if self._inside == name else self._inside
            facts = {**checkpoint_facts(task, in_phase, self._round), **self._config}
            self._writer.begin(lambda: self._write_now(name, content, facts, hooks, old))
            if self.waits:
                self._writer.wait()
        self._written, self._due, self._inside = time.monotonic(), False, name if in_phase is not None else None

    def _write_now(
        self,
        name: str,
        content: dict[str, Any],
        facts: dict[str, Any],
        hooks: Sequence[CheckpointHook],
        old: str | None,
    ) -> None:
        with explain_storage_errors(self.run):
            retry_once(lambda: self.run.checkpoints.write(name, content, facts))
            self.run.requests.forget_checkpoint()
            for hook in hooks:
                published = {**content, "input_args": hook.input_args}
                retry_once(partial(save_checkpoint, hook.checkpoint_folder, published, facts=facts))
            if self.retention is not None:
                self.run.checkpoints.keep(self.retention)
            if old is not None:
                self.run.checkpoints.remove(old)

    def close(self, error: BaseException | None = None) -> None:
        """Waits for the checkpoint that is being written, and for the loggers, but not for long."""
        if self._watching is not None:
            self._watching.close()
        try:
            self._writer.close()
        except BaseException as failed:
            super().close(failed)
            raise
        super().close(error)

    def _stop_if_asked(self, checkpoint: str) -> None:
        if self._stopping:
            self._writer.wait()
            barrier()  # the primary rank may still have been writing
            for listener in self._listeners:
                listener.stopped()
            raise RunStopped(f"the run was stopped; its state is in {self.run.storage.join(checkpoint)}")

    def phase_ended(self, task: ClassyTask) -> dict[str, Any] | None:
        """Adds the phase's line to the metrics; at the end of a round, writes the due checkpoint and reports.

        Raises:
            RunStopped: the run is asked to stop, and its checkpoint is written.
        """
        line = phase_line(task, self._phase_began)
        self._phase_began = time.time()
        if self._watching is not None:
            self._watching.phase_ended()
        self._round.append(line)
        if is_primary():
            with explain_storage_errors(self.run):
                retry_once(lambda: self.run.metrics.add(line))
        if not task.test_only and not task.done_training():
            self._hear(self._agreement.now())
        if task.phases and not ends_round(task.phases, task.phase_idx):
            if self._due or self._stopping:  # the test phase may be long
                name = name_at_end(task)
                self._write(name, task, None)
                self._stop_if_asked(name)
            return None
        checkpoint = self._checkpoint(task)
        if task.done_training():
            if self._watching is not None:
                self._watching.working("writing the last checkpoint")
            self._writer.wait()
        progress = {**position(task), "where": task.where}
        report = {**latest_by_phase_type(self._round), **progress, **early_end(task)}
        self._round = []
        for listener in self._listeners:
            listener.reported(report, checkpoint, self._writer.last())
        if checkpoint is not None and not task.done_training():
            self._stop_if_asked(checkpoint)
        return {**report, "checkpoint": checkpoint}

    def _checkpoint(self, task: ClassyTask) -> str | None:
        """Writes the checkpoint of the round that ends, if one is due, and returns its name."""
        hooks = [hook for hook in task.hooks if isinstance(hook, CheckpointHook)]
        last, rounds = task.done_training(), task.checkpoint_every.rounds
        due = not hooks if rounds is None else (task.train_phase_idx + 1) % rounds == 0
        due = due or any(hook.due for hook in hooks) or self._due or self._stopping
        if task.test_only or not (last or due):
            return None
        name = name_at_end(task)
        self._write(name, task, None, [hook for hook in hooks if hook.due or last])
        for hook in hooks:
            hook.due = False
        return name
