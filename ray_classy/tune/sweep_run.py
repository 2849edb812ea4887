"""Runs the trials of a sweep on Ray Tune, from the records of an earlier start if there was one."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.train import RunConfig
from ray.tune.schedulers import PopulationBasedTraining

from ray_classy.config import dump_yaml
from ray_classy.config.changes import changed_lines
from ray_classy.config.ray_options import amounts
from ray_classy.errors import ConfigError, RunError, RunFolderError
from ray_classy.models.pretrained import PretrainedWeights
from ray_classy.models.weights import Weights
from ray_classy.printable import shell_word
from ray_classy.ray_compat import settings as settings_of_ray
from ray_classy.ray_compat.cluster import HEAD
from ray_classy.ray_compat.train import resources_per_worker
from ray_classy.ray_compat.tune import perturbation_interval
from ray_classy.redact import redacted_values
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.tasks.metrics import dotted
from ray_classy.trainer.interrupts import interrupted, interruptible, interruption, stop_tune_on_signal
from ray_classy.trainer.ray_connection import environment
from ray_classy.trainer.ray_fit import ray_storage, remove_any
from ray_classy.trainer.run import INTERRUPTED
from ray_classy.trainer.run_spec import config_file_fact
from ray_classy.trainer.shipping import pickled
from ray_classy.tune.folder import BEST_FILE, FINISHED, NOT_STARTED, RUNNING, STOPPED, Reports, SweepFolder, TrialRecord
from ray_classy.tune.parts import SCHEDULER_REGISTRY
from ray_classy.tune.plan import MOST_SHARES, Plan, share_of_head
from ray_classy.tune.result import SweepResult
from ray_classy.tune.search import SweepSearch
from ray_classy.tune.table import Table
from ray_classy.tune.trial import Job, TaskTrial
from ray_classy.tune.watch import Watch
from ray_classy.user_code import Search

if TYPE_CHECKING:
    from ray_classy.tune.tuner import TaskTuner

_log = logging.getLogger(__name__)

_FREE_TO_CHANGE = {"ray", "tune.max_concurrent_trials", "tune.time_budget_s", "tune.reuse_actors"}


class SweepRun:
    """One start of a sweep: Ray Tune runs the trials that are left, and the folder records how they end.

    Args:
        tuner: what was asked for.
        plan: made of it.
        folder: the sweep's, locked by this process.
        most: how many trials fit into the cluster at once.
        weights: that models start from, by where they are from.
    """

    def __init__(
        self,
        tuner: TaskTuner,
        plan: Plan,
        folder: SweepFolder,
        most: int,
        weights: Mapping[PretrainedWeights, Weights],
    ) -> None:
        self.tuner, self.plan, self.folder, self.most = tuner, plan, folder, most
        self.weights = {source: ray.put(content) for source, content in weights.items()}
        self.config, self.chosen = tuner.config, plan.tune_config
        self.records = {record.name: record for record in plan.records_in(folder)}
        self.total = self._total()
        metric, mode = str(self.chosen.metric), str(self.chosen.mode)
        self.table = Table(
            plan.space, metric, mode, plan.examined.epochs, self.total, self.records, shown=tuner.progress
        )
        self.metric, self.mode = metric, mode
        self.interrupted = self.stopping = False

    def run(self) -> SweepResult:
        """Runs what is left of the sweep."""
        try:
            self._run_trials()
        finally:
            self.table.finish()
        return self._result()

    def _run_trials(self) -> None:
        num_epochs = self.tuner.num_epochs if self.tuner.extend is not None else None
        chosen = [] if num_epochs is None else self._best_to_extend(num_epochs)
        self._describe()
        for record in chosen:
            record.num_epochs = num_epochs
            record.state, record.reason = RUNNING, None
            self.folder.write_trial(record)
        left = self.total - len(self.records) + sum(not record.ended for record in self.records.values())
        if left > 0:
            self._print_plan(left)
            longer = [record for record in self.records.values() if not record.ended and record.num_epochs is not None]
            if longer:  # they were chosen by the user: no scheduler stops them
                self._fit(longer, 0, tune.schedulers.FIFOScheduler())
            self.interrupted = self.interrupted or (self.stopping and left > len(longer))
            if left > len(longer) and not self.interrupted:
                self._fit(list(self.records.values()), self.total, self.chosen.scheduler)
            self._record_unfinished()

    def _result(self) -> SweepResult:
        result = SweepResult(self.folder, self.records, self.table, self.metric, self.mode)
        if result.best is None:
            first = next((record for record in result.trials if record.reason), None)
            raise RunError(
                f"all {len(result)} trials failed" + (f"; {first.name}: {first.reason}" if first is not None else "")
            )
        best = result.best_config
        if best is not None:
            (best.get("ray") or {}).pop("name", None)
            self.folder.storage.write(BEST_FILE, dump_yaml(redacted_values(best)).encode())
        return result

    # -- before -------------------------------------------------------------------------------------------------------

    def _total(self) -> float:
        if self.plan.earlier is None:
            return self.plan.total
        facts = self.plan.earlier.record.facts()
        before = math.inf if facts.get("total") is None else facts["total"]
        if self.tuner.extend is None:
            return before
        grid = self.plan.space.grid_size if self.chosen.search_alg is None else 1
        return max(before if math.isfinite(before) else 0, len(self.records)) + self.tuner.num_samples * grid

    def _describe(self) -> None:
        """Records what is searched, or compares it with the record of an earlier start."""
        described = redacted_values(self.plan.space.described())
        if self.plan.earlier is not None:
            facts = self.plan.earlier.record.facts()
            chosen = {"by": {"metric": self.metric, "mode": self.mode}}
            before = {"by": {"metric": facts["metric"], "mode": facts["mode"]}}
            changed = changed_lines({**facts["config"], **before}, {**described, **chosen}, _FREE_TO_CHANGE)
            if changed:
                raise RunFolderError(
                    "\n".join(
                        [
                            f"the sweep {self.folder.path!r} has another config; what changed:",
                            *changed,
                            "Leave the config out to resume the sweep with its own (--resume RUN), add samples or "
                            "epochs with --extend RUN, or give the new sweep another name",
                        ]
                    )
                )
        file = getattr(self.config, "file", None)
        earlier = self.folder.record.facts() if self.plan.earlier is not None else {}
        self.folder.describe(
            dump_yaml(described),
            seed=self.plan.seed,
            metric=self.metric,
            mode=self.mode,
            total=None if math.isinf(self.total) else int(self.total),
            epochs=self.plan.examined.epochs,
            config=described,
            config_file=config_file_fact(file).get("config_file") or earlier.get("config_file"),
        )

    def _best_to_extend(self, num_epochs: int | float) -> list[TrialRecord]:
        """The best trials, which are to be trained to that many epochs.

        Raises:
            ConfigError: they have that many already; the sweep stays as it is.
        """
        able = [r for r in self.records.values() if r.state in (FINISHED, STOPPED) and self.metric in r.metrics]
        chosen = [record for record in self.table.best(able)[: self.tuner.best] if record.epoch < num_epochs]
        if not chosen:
            best = f"the best {self.tuner.best} trials"
            raise ConfigError(f"none of {best} has fewer than {num_epochs} epochs: give a larger num_epochs")
        return chosen

    def _print_plan(self, left: float) -> None:
        each = resources_per_worker(self.plan.settings.scaling)
        workers = self.plan.workers
        trials = "trials without limit" if math.isinf(left) else f"{int(left)} {'trial' if left == 1 else 'trials'}"
        needs = amounts(each) if workers == 1 else f"{workers} workers x {amounts(each)}"
        self.table.print_line(
            f"sweep {self.folder.name}: {trials}, {self._at_once()} at a time, {needs} each; {self.metric}"
        )

    def _at_once(self) -> int:
        limit = self.chosen.max_concurrent_trials or self.most
        return int(min(self.most, limit, self.total))

    # -- Ray Tune -----------------------------------------------------------------------------------------------------

    def _fit(self, records: list[TrialRecord], total: float, scheduler: Any) -> None:
        """Lets Ray Tune run what is left of these trials, and new ones up to a total (0 for none)."""
        plan, chosen, folder = self.plan, self.chosen, self.folder
        others = self.records.keys() - {record.name for record in records}
        searcher = chosen.search_alg
        scheduler.set_search_properties(self.metric, self.mode)  # (False: it was made with its own)
        if searcher is not None:
            space = {node.name: node.domain for node in plan.space.nodes}
            searcher.set_search_properties(self.metric, self.mode, space)
        shared = isinstance(scheduler, PopulationBasedTraining)
        watch = Watch(
            folder,
            self.records,
            self.table,
            plan.retention,
            interval=perturbation_interval(scheduler) if shared else None,
            nested=plan.workers > 1,
            filesystem=plan.filesystem,
            why_stopped=self._why_stopped,
            limits=plan.stop,
        )
        search = SweepSearch(
            plan.space,
            plan.seed,
            records,
            total,
            chosen.max_concurrent_trials or (math.inf if self._at_once() <= MOST_SHARES else self._at_once()),
            searcher,
            watch.begin,
            self._history,
            folder.storage.join,
        )
        with host_rng_kept(), interruptible(), environment(settings_of_ray.pending_trials(self.most + 1)):
            seed_host(derive_seed(plan.seed, 1))
            search.replay(scheduler, self.metric)
            remove_any(folder.storage, "ray")
            for record in records:
                if not record.ended:  # what was asked of an earlier start
                    folder.trial_run(record.name, plan.filesystem).requests.forget()
            path, filesystem = ray_storage(folder.path, plan.filesystem)
            tuner = tune.Tuner(
                tune.with_resources(tune.with_parameters(TaskTrial, job=self._job()), self._resources()),
                tune_config=tune.TuneConfig(
                    scheduler=scheduler,
                    search_alg=search,
                    num_samples=1,
                    reuse_actors=chosen.reuse_actors and plan.workers == 1,
                ),
                run_config=tune.RunConfig(
                    name="ray",
                    storage_path=path,
                    storage_filesystem=filesystem,
                    stop=plan.stop,
                    callbacks=[watch, *plan.callbacks],
                    failure_config=tune.FailureConfig(max_failures=plan.max_failures),
                    checkpoint_config=tune.CheckpointConfig(num_to_keep=8, checkpoint_at_end=False),
                    verbose=0,
                ),
            )
            try:
                with stop_tune_on_signal(watch.stop), warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Consider boosting PBT performance")
                    tuner.fit()
            except tune.TuneError as error:
                raise RunError(f"Ray Tune failed: {error}. Resume with --resume {shell_word(folder.path)}") from error
            except KeyboardInterrupt as error:
                raise interrupted(error, folder.path) from None

        left = [record for name, record in self.records.items() if name not in others and not record.ended]
        missing = not search.exhausted and len(self.records) < total
        self.interrupted = bool(left or missing) and plan.stop.over is None
        self.stopping = watch.stopping

    def _job(self) -> Job:
        plan = self.plan
        job = Job(
            space=plan.space,
            folder=self.folder.path,
            filesystem=plan.filesystem,
            metric=self.metric,
            settings=dataclasses.replace(plan.settings, run_config=RunConfig()),
            workers=plan.workers,
            command=sys.argv,
            cwd=os.getcwd(),
            search=Search.here(),
        )
        pickled(job)
        return dataclasses.replace(job, weights=self.weights)

    def _resources(self) -> tune.PlacementGroupFactory:
        """What Ray Tune reserves for a trial.

        For a single-worker trial these are the resources of its worker. The process of a multi-worker trial only waits
        for its workers, so Ray Tune reserves a share of the resource `HEAD` for it, of which the cluster has 1: the
        share is so large that no more trials start than there is room for. A trial whose dataset is streamed reserves
        a share as well, because its pipeline needs a CPU that no trial takes.
        """
        worker = resources_per_worker(self.plan.settings.scaling)
        if self.plan.workers == 1 and not self.plan.examined.streamed:
            return tune.PlacementGroupFactory([worker])
        share = {HEAD: share_of_head(self._at_once())}
        return tune.PlacementGroupFactory([worker, share] if self.plan.workers == 1 else [share])

    def _history(self, record: TrialRecord) -> list[dict[str, Any]]:
        storage = self.folder.trial_run(record.name, self.plan.filesystem).storage
        reports = [dotted(report) for report in Reports(storage).read()]
        reports = [report for report in reports if isinstance(report.get(self.metric), int | float)]
        return [{**report, "training_iteration": number} for number, report in enumerate(reports, 1)]

    def _why_stopped(self, result: dict[str, Any]) -> str:
        reason = self.plan.stop.reason(result)
        name = type(self.chosen.scheduler).__name__
        short = {entry.class_name: name for name, entry in SCHEDULER_REGISTRY.items()}
        return reason or f"by {short.get(name, name)} at epoch {result.get('epoch', 0)}"

    # -- after --------------------------------------------------------------------------------------------------------

    def _record_unfinished(self) -> None:
        """Records why trials that have not ended were stopped: by the limits of the sweep, or by the user."""
        left = [record for record in self.records.values() if not record.ended]
        if self.interrupted:
            for record in left:
                with contextlib.suppress(OSError, RunFolderError):  # must not hide what happened
                    self._record_interruption(record)
            raise interruption(self.folder.path)
        for record in left:
            started = self.folder.trial_run(record.name, self.plan.filesystem).record.exists()
            record.state, record.reason = STOPPED if started else NOT_STARTED, self.plan.stop.over
            self._record_interruption(record, STOPPED)

    def _record_interruption(self, record: TrialRecord, status: str = INTERRUPTED) -> None:
        """Records how far a trial is that ended before its end, whether its process could do so or not."""
        self.folder.write_trial(record)
        run = self.folder.trial_run(record.name, self.plan.filesystem)
        if run.record.exists():
            if run.requests.stop_requested():
                _log.warning("%s came to the end of no step in time: it resumes from its last checkpoint", record.name)
            run.checkpoints.update_aliases()
            if run.record.facts().get("status") in (RUNNING, STOPPED):
                run.finish(status)
        run.requests.forget()
