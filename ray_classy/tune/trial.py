"""The process of a trial, with the same loop, session and checkpoints as any other training.

A trial's folder is an ordinary run folder, from which it is resumed after any interruption. Where a scheduler asks for
a checkpoint, Ray Tune gets a pointer to one in that folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import ray
import torch
from ray import tune

from ray_classy.config import Config
from ray_classy.config.imports import import_modules
from ray_classy.distributed import is_primary
from ray_classy.errors import ResourceError, RunStopped, WorkerDiedError
from ray_classy.hooks import HOOK_REGISTRY, CheckpointHook
from ray_classy.ingest.ray_ingest import cpus_of_worker, read_with_own_cpus
from ray_classy.models.pretrained import PretrainedWeights
from ray_classy.redact import redacted, redacted_values
from ray_classy.storage import Storage, is_url
from ray_classy.tasks import ClassyTask
from ray_classy.tasks.build import build_checked_task
from ray_classy.tasks.metrics import dotted
from ray_classy.trainer.classy_trainer import rounds
from ray_classy.trainer.interrupts import leave_signals_to_driver
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.logs import log_to_folder
from ray_classy.trainer.ray_config import RaySettings
from ray_classy.trainer.ray_worker import PreemptionListener
from ray_classy.trainer.run import Run
from ray_classy.trainer.run_checkpoints import epoch_of
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession
from ray_classy.trainer.worker_group import note
from ray_classy.tune.fitting import fitting_of
from ray_classy.tune.folder import Reports
from ray_classy.tune.fresh_process import fresh_process
from ray_classy.tune.pointer import Pointer, adopt
from ray_classy.tune.space import Space
from ray_classy.urls import joined
from ray_classy.user_code import Search

NUM_EPOCHS = "__num_epochs__"
"""In a trial's parameters: to how many epochs `--extend` has it trained."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Settings that all trials of a sweep share.

    Attributes:
        space: gives a trial's config from its parameters.
        folder: the sweep's.
        filesystem: in which it lies; None finds it from the path.
        metric: the one that the sweep optimizes; a round without it is not a result for Ray Tune.
        settings: how a trial uses the cluster.
        workers: of a trial.
        command: what began the sweep.
        cwd: of the driver.
        search: where the driver finds the user's modules.
        weights: what the driver has read of the pretrained weights that models start from, in Ray's object store.
    """

    space: Space
    folder: str
    filesystem: Any
    metric: str
    settings: RaySettings
    workers: int
    command: list[str]
    cwd: str
    search: Search
    weights: Mapping[PretrainedWeights, ray.ObjectRef] = dataclasses.field(default_factory=dict)


class TrialReporter(Listener):
    """Records each report of a trial in its folder."""

    def started(self, session: FolderSession) -> None:
        self._reports = Reports(session.run.storage)
        if is_primary():
            self._reports.begin(session.run.metrics.lines(), *session.began)

    def reported(self, metrics: dict[str, Any], checkpoint: str | None, written: Future[None]) -> None:
        written.result()  # Ray Tune may give the checkpoint to another trial at once
        if is_primary():
            self._reports.add({**metrics, "checkpoint": checkpoint})


class TrialWorker(PreemptionListener):
    """Keeps Ray Train informed of a trial on several workers, and records which placement group holds them."""

    def starting(self, session: FolderSession) -> None:
        self._run = session.run
        if is_primary():
            note(session.run)

    def reported(self, metrics: dict[str, Any], checkpoint: str | None, written: Future[None]) -> None:
        ray.train.report({"epoch": metrics["epoch"]})  # so that Ray sees that all ranks are alive

    def stopped(self) -> None:
        if is_primary():  # before Ray Train has ended, which takes some seconds
            self._run.requests.forget()


class TaskTrial(tune.Trainable):
    """One trial at a time; each `step` trains to the end of the next round that reports the sweep's metric."""

    def setup(self, config: dict[str, Any], job: Job) -> None:
        """Called once for each process, in its main thread."""
        leave_signals_to_driver()
        self._job = job
        self._rounds: Iterator[dict[str, Any]] | None = None
        self._source = Pointer.in_parameters(config)
        self._last: dict[str, Any] = {}
        self._reported = 0
        if os.path.isdir(job.cwd):
            os.chdir(job.cwd)  # so that a relative path means what it means to the driver
        job.search.extend()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Makes the process ready for another trial."""
        self._end_rounds()
        self._source, self._last, self._reported = Pointer.in_parameters(new_config), {}, 0
        return True

    def step(self) -> dict[str, Any]:
        """The report of the next round, by dotted names; of a trial that fails, the last one and why it failed.

        If this raised an exception, Ray Tune would end the process and try again what would fail again. The driver
        drops the answer of a trial that it has asked to stop.
        """
        try:
            return self._step()
        except RunStopped as stopped:
            self._rounds = None
            return {**self._nothing(), **self._last, "trial": self.trial_id, "done": True, "interrupted": str(stopped)}
        except Exception as error:
            self._rounds = None
            if isinstance(error, ray.exceptions.RayError | WorkerDiedError | ResourceError):
                raise  # of the cluster: worth another try
            reason = redacted(f"{type(error).__name__}: {error}".strip())
            return {**self._nothing(), **self._last, "trial": self.trial_id, "done": True, "failed": reason}

    def _nothing(self) -> dict[str, Any]:
        """Returns a report for a trial that has made none."""
        return {"epoch": 0, self._job.metric: math.nan}

    def _step(self) -> dict[str, Any]:
        if self._rounds is None:
            self._rounds = self._trial_rounds()
        for report in self._rounds:
            self._last = self._result(report)
            if self._last["done"]:
                for _ in self._rounds:  # to the end of the loop, which calls on_end
                    pass
            if self._last["done"] or self._job.metric in self._last:
                return self._last
        return {**self._last, "done": True}  # it was at its end already

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes a pointer to the checkpoint of the last report."""
        Pointer(self._folder().path, self._last.get("checkpoint")).write(checkpoint_dir)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Reads which checkpoint to resume from; it is adopted when the trial starts."""
        self._source = Pointer.read(str(checkpoint), self._sweep())

    def cleanup(self) -> None:
        """Called before the process ends: ends the trial, at a checkpoint of its current step if it is asked to stop.

        A trial that is asked to stop while Ray Tune has its report makes one more step for that.
        """
        with contextlib.suppress(Exception):  # the trial's own, which the folder records, or of a store
            if self._rounds is not None and self._folder().requests.stop_requested():
                for _ in self._rounds:
                    pass
        self._end_rounds()

    def _end_rounds(self) -> None:
        if self._rounds is not None:
            self._rounds.close()  # type: ignore[attr-defined]
            self._rounds = None

    # -----------------------------------------------------------------------------------------------------------------

    def _sweep(self) -> Storage:
        return Storage(self._job.folder, self._job.filesystem)

    def _folder(self) -> RunFolder:
        return RunFolder(self._sweep().join(self.trial_id), self._job.filesystem)

    def _result(self, report: dict[str, Any]) -> dict[str, Any]:
        done = report.pop("done", False)
        result = {**dotted(report), "trial": self.trial_id, "done": done}
        self._reported += self._job.metric in result
        return {**result, "training_iteration": self._reported}

    def _trial_rounds(self) -> Iterator[dict[str, Any]]:
        """The rounds of the trial, in this process or on workers."""
        folder, job = self._folder(), self._job
        config = trial_config(job.space, self.config, self.trial_id)
        import_modules(config)
        with fresh_process():
            task = build_checked_task(config)
            load_weights_of_driver(task, job.weights)
            adopted = self._adopt(folder, self._source, config)
            with Run.of_trial(task, folder, job.command, trial=self.trial_id, **adopted):
                self._reported = sum(job.metric in dotted(report) for report in Reports(folder.storage).read())
                try:
                    yield from self._in_process(task, folder) if job.workers == 1 else self._on_workers(task, folder)
                except RunStopped as stopped:
                    folder.log_now(str(stopped))
                    raise
                except Exception:
                    with contextlib.suppress(OSError):  # a log that cannot be written must not hide what happened
                        folder.log(traceback.format_exc().rstrip())
                    raise

    def _adopt(self, folder: RunFolder, source: Pointer | None, config: Config) -> dict[str, Any]:
        """Adopts another trial's state, unless that was done before this process was killed; a fact to record."""
        if source is None or source.run == folder.path or not source.checkpoint:
            return {}
        adopted = redacted_values({**source.plain(), "config": json.loads(json.dumps(config, default=repr))})
        if folder.record.exists() and folder.record.facts().get("taken_up") == adopted:
            return {}
        adopt(folder, RunFolder(source.run, self._job.filesystem), source.checkpoint)
        return {"taken_up": adopted}

    def _in_process(self, task: ClassyTask, run: RunFolder) -> Iterator[dict[str, Any]]:
        task.use_gpu_if_unset(bool(ray.get_gpu_ids()))  # what Ray gave this trial, whatever else the node has
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))  # Ray sets it, if it is not set
        read_with_own_cpus(task, cpus_of_worker())
        reported = False
        with log_to_folder(run):
            for report in rounds(task, FolderSession(run, listeners=[TrialReporter()])):
                reported = True
                yield {**report, "done": task.done_training()}
        if not reported:
            yield from _last_report(run)

    def _on_workers(self, task: ClassyTask, run: RunFolder) -> Iterator[dict[str, Any]]:
        names = run.checkpoints.names()
        epoch = epoch_of(names[-1]) if names else 0
        reports = Reports(run.storage)
        before = reports.begin(run.metrics.lines(), epoch, names[-1] if names else None)
        first = last = before[-1]["phase_idx"] if before else -1
        with fitting_of(task, run, self._job.settings, [TrialReporter(), TrialWorker()]) as fitting:
            while True:
                over = fitting.over.wait(1.0 if is_url(run.path) else 0.1)
                new = [report for report in reports.read() if report["phase_idx"] > last]
                for report in new:
                    last = report["phase_idx"]
                    ended = report["where"] >= 1.0 and _is_last(task, report)
                    yield {**report, "done": ended or "stopped_early" in report}
                if over and not new:
                    break
            if fitting.error is not None:
                raise fitting.error
            if fitting.stopped is not None:
                raise RunStopped(fitting.stopped)
        if last == first:
            yield from _last_report(run)


def load_weights_of_driver(task: Any, weights: Mapping[PretrainedWeights, ray.ObjectRef]) -> None:
    """Loads the pretrained weights that the driver has read into a trial's model, if it starts from them."""
    source = getattr(task.base_model, "starting_weights", None)
    if source is not None and source in weights:
        task.weights_report = task.base_model.load_starting_weights(ray.get(weights[source]))


def trial_config(space: Space, params: dict[str, Any], name: str) -> Config:
    """The config of a trial; folders in which checkpoints are published get one of their own for each trial."""
    config = space.trial_config({key: value for key, value in params.items() if not key.startswith("__")})
    if NUM_EPOCHS in params:
        config["num_epochs"] = params[NUM_EPOCHS]
    for hook in config.get("hooks") or []:
        if hook.get("checkpoint_folder") and issubclass(HOOK_REGISTRY.find(hook["name"]), CheckpointHook):
            hook["checkpoint_folder"] = joined(hook["checkpoint_folder"], name)
    return config


def _is_last(task: ClassyTask, report: dict[str, Any]) -> bool:
    return report["phase_idx"] + 1 >= len(task.planned_phases())


def _last_report(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Yields the last report of a trial that had nothing left to do."""
    reports = Reports(run.storage).read()
    if reports:
        yield {**reports[-1], "done": True}
