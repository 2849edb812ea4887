"""What the driver does while a sweep runs: it records each trial's parameters and its end, applies the retention of
checkpoints, frees the resources of dead trials, updates the table, and asks trials to stop."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from ray_classy.ray_compat.tune import error_of, is_running, is_terminated, process_of, restored_report
from ray_classy.storage import retry_once
from ray_classy.trainer.interrupts import stop_tune
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_checkpoints import epoch_of
from ray_classy.trainer.run_metrics import train_phase_of
from ray_classy.trainer.worker_group import release
from ray_classy.tune.folder import FAILED, FINISHED, STOPPED, Clone, SweepFolder, TrialRecord
from ray_classy.tune.table import Table

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from ray_classy.trainer.run_folder import RunFolder
    from ray_classy.tune.section import Stop

_log = logging.getLogger(__name__)
_KEPT_OF_RESULTS = ("train.", "test.")
_STOP_SECONDS = 6.0  # for a trial to come to its next step, and to write its checkpoint


class Watch(tune.Callback):
    """Ray Tune's callback of a sweep.

    Args:
        folder: the sweep's.
        records: the trials that were started earlier, by name; new ones are added.
        table: shows them.
        retention: which checkpoints of a trial are kept.
        interval: epochs between two checkpoints that other trials may adopt; None if trials adopt none.
        nested: whether trials have workers of their own.
        filesystem: in which the folder lies; None finds it from the path.
        why_stopped: the reason to record for a trial that the scheduler stops.
        limits: say when the sweep is to end before all trials do.

    Attributes:
        stopping: whether the sweep is to stop.
    """

    def __init__(
        self,
        folder: SweepFolder,
        records: dict[str, TrialRecord],
        table: Table,
        retention: Retention,
        interval: float | None,
        nested: bool,
        filesystem: Any,
        why_stopped: Callable[[dict[str, Any]], str],
        limits: Stop,
    ) -> None:
        self._folder, self._records, self._table = folder, records, table
        self._retention, self._interval, self._nested, self._filesystem = retention, interval, nested, filesystem
        self._why_stopped, self._limits = why_stopped, limits
        self._runs: dict[str, RunFolder] = {}  # by trial: each has read the manifests of its checkpoints
        self._looping = self.stopping = False
        self._ends_late_trials: threading.Timer | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune saves its callbacks, and what it saves is never read."""
        return {}

    def begin(self, record: TrialRecord) -> None:
        """Records a new trial before it runs."""
        self._records[record.name] = record
        self._folder.write_trial(record)

    def stop(self) -> bool:
        """Has the trials and Ray Tune stopped at the end of the current round of its loop; for signal handlers.

        Returns:
            Whether that loop has begun; if not, nothing will be stopped.
        """
        self.stopping = True
        return self._looping

    # -- what Ray Tune calls ------------------------------------------------------------------------------------------

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """A round of Ray Tune's loop begins."""
        self._looping = True

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called when a trial starts, or resumes with other parameters."""
        record = self._records[trial.trial_id]
        self._runs.pop(record.name, None)  # its checkpoints may become those of another trial
        params = {name: value for name, value in trial.config.items() if name in record.params}
        source = restored_report(trial)
        of = source.get("trial")
        if params != record.params or _adopts_anew(record, of, source.get("checkpoint")):
            record.clones.append(Clone(of, source.get("checkpoint"), source.get("epoch"), params, done=False))
            record.params = params
            self._folder.write_trial(record)
            self._table.print_line(f"{record.name} resumes from {of} with {self._table.params(params)}")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported."""
        record = self._records[trial.trial_id]
        if "failed" in result or "interrupted" in result:
            return
        record.epoch = result.get("epoch", record.epoch)
        record.metrics = {name: value for name, value in result.items() if name.startswith(_KEPT_OF_RESULTS)}
        record.checkpoint = result.get("checkpoint") or record.checkpoint
        record.seconds += result.get("time_this_iter_s") or 0.0
        if record.pending_clone is not None:
            record.pending_clone.done = True
            self._folder.write_trial(record)
        self._table.reported(record, result.get("where"))
        if result.get("checkpoint"):
            try:
                retry_once(lambda: self._keep_checkpoints(trials, trial, result))
            except OSError as error:  # the next report tries again
                _log.warning("the checkpoints of %s cannot be cleaned up: %s", record.name, error)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial is over: it came to its end, or was stopped."""
        record = self._records[trial.trial_id]
        last = trial.last_result or {}
        if "interrupted" in last:
            return  # it is resumed with the sweep
        if "failed" in last:
            self._end(record, FAILED, _one_line(last["failed"]))
        elif last.get("done") and (last.get("stopped_early") or last.get("where", 1.0) >= 1.0):
            self._end(record, FINISHED, last.get("stopped_early"))
        else:
            self._end(record, STOPPED, self._why_stopped(last))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed for good."""
        if self._nested:
            release(self._folder.trial_run(trial.trial_id, self._filesystem))
        self._end(self._records[trial.trial_id], FAILED, _one_line(error_of(trial)) or "its process died")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """A round of Ray Tune's loop ends; if the sweep is to stop, it is the last one."""
        self._table.draw({trial.trial_id: trial.status for trial in trials if not is_terminated(trial)})
        if self.stopping or self._limits.is_over():
            self._ask_to_stop([trial for trial in trials if is_running(trial)])
            if threading.current_thread() is threading.main_thread():
                stop_tune()
            else:  # in which no handler of signals runs
                self._limits.end_trials()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """All processes of trials have ended."""
        if self._ends_late_trials is not None:
            self._ends_late_trials.cancel()

    # -----------------------------------------------------------------------------------------------------------------

    def _ask_to_stop(self, trials: list[Trial]) -> None:
        """Asks trials for a checkpoint, and gives them some seconds for it.

        Ray Tune, which is stopped next, waits for their processes, and looks at none of their reports.
        """
        asked = [(self._folder.trial_run(trial.trial_id, self._filesystem), process_of(trial)) for trial in trials]
        for run, _ in asked:
            try:
                run.requests.stop()
            except OSError as error:
                _log.warning("%s cannot be asked for a checkpoint: %s", run.name, error)

        def end_late_trials() -> None:
            for run, process in asked:
                with contextlib.suppress(Exception):  # it has ended by itself
                    if process is not None and run.requests.stop_requested():
                        ray.kill(process)

        self._ends_late_trials = threading.Timer(_STOP_SECONDS, end_late_trials)
        self._ends_late_trials.daemon = True
        self._ends_late_trials.start()

    def _end(self, record: TrialRecord, state: str, reason: str | None) -> None:
        self._runs.pop(record.name, None)
        record.state, record.reason = state, reason
        self._folder.write_trial(record)
        self._table.ended(record)

    def _keep_checkpoints(self, trials: list[Trial], trial: Trial, result: dict[str, Any]) -> None:
        """Applies the retention to a trial; checkpoints from which other trials may resume are kept besides."""
        name, reported = trial.trial_id, result["checkpoint"]
        if name not in self._runs:
            self._runs[name] = self._folder.trial_run(name, self._filesystem)
        run = self._runs[name]
        there = run.checkpoints.names()
        pinned = {reported, *(there[there.index(reported) :] if reported in there else [])}  # the rest is being written
        for other in self._records.values():
            if other.pending_clone is not None and other.pending_clone.of == name:
                pinned.add(other.pending_clone.checkpoint)
        if self._interval is not None:
            # A checkpoint reported within an interval may be chosen. Names count train phases, the interval epochs.
            train_phase = train_phase_of(result)
            phases_per_epoch = train_phase / result["epoch"] if result["epoch"] else 1
            since = train_phase - self._interval * phases_per_epoch
            pinned |= {old for old in there if epoch_of(old) >= since}
            for other in trials:
                source = restored_report(other)
                if source.get("trial") == name:
                    pinned.add(source.get("checkpoint"))
        run.checkpoints.keep(self._retention, pinned)


def _adopts_anew(record: TrialRecord, of: str | None, checkpoint: str | None) -> bool:
    """Whether a trial restores another trial's checkpoint, and not one that it was restoring when its process died.

    Its new parameters may be equal to those that it has.
    """
    pending = record.pending_clone
    return of not in (None, record.name) and (pending is None or (pending.of, pending.checkpoint) != (of, checkpoint))


def _one_line(text: str) -> str:
    """The first line of a message that says something, not too long; of a traceback, its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    line = lines[-1] if "Traceback" in text else lines[0]
    return line if len(line) <= 300 else f"{line[:297]}..."


class Guarded(tune.Callback):
    """A user's callback; when it raises, one warning is logged, and the sweep continues without it."""

    def __init__(self, callback: tune.Callback) -> None:
        self._callback = callback
        self.failed: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing; a user's callback need not pickle."""
        return {}


def _guard(name: str) -> Callable[..., None]:
    def call(self: Guarded, *args: Any, **kwargs: Any) -> None:
        if self.failed is not None:
            return
        try:
            getattr(self._callback, name)(*args, **kwargs)
        except Exception as error:
            kind = type(self._callback).__name__
            self.failed = f"the callback {kind} raised {type(error).__name__} in {name}: {error}"
            _log.warning("%s; the sweep continues without it", self.failed)

    return call


for _name in [name for name in dir(tune.Callback) if name.startswith("on_") or name == "setup"]:
    setattr(Guarded, _name, _guard(_name))
