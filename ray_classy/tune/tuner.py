"""Sweeps: Ray Tune over a task config with search nodes."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray import tune
from ray.train import ScalingConfig
from ray.tune.schedulers import PopulationBasedTraining

from ray_classy.config import Config, dotted, dump_yaml, mark_of, problems_in, raise_problems
from ray_classy.errors import ConfigError, RayClassyError, ResourceError, RunError, RunFolderError
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.tasks.task_config import import_modules, located
from ray_classy.trainer.local_trainer import config_text
from ray_classy.trainer.logs import shown
from ray_classy.trainer.metrics import dotted as flat
from ray_classy.trainer.ray_cluster import check_visible, connected, environment, room_for
from ray_classy.trainer.ray_config import ray_keys
from ray_classy.trainer.ray_trainer import RayTrainer, interrupt_handler_kept
from ray_classy.trainer.run_folder import CONFIG_FILE
from ray_classy.trainer.shipping import own_folders, pickled
from ray_classy.tune.examine import Examined, examine
from ray_classy.tune.folder import BEST_FILE, RUNNING, Reports, SweepFolder, TrialRecord, existing_sweep
from ray_classy.tune.parts import SCHEDULER_REGISTRY, Sweep
from ray_classy.tune.result import SweepResult
from ray_classy.tune.search import SweepSearch
from ray_classy.tune.section import (
    Stop,
    resources_per_worker,
    tune_config_of,
    tune_keys,
    with_metric,
    with_parts,
)
from ray_classy.tune.space import Space
from ray_classy.tune.table import Table
from ray_classy.tune.trial import Job, TaskTrial
from ray_classy.tune.watch import Guarded, Watch

_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials keep their own metrics
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # what must be known after a crash is written down by the watch
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
_HEAD = "node:__internal_head__"
_FREE_TO_CHANGE = {"ray", "tune.max_concurrent_trials", "tune.time_budget_s", "tune.reuse_actors"}


class TaskTuner:
    """Searches over a task config in which search nodes stand for some values; follows `ray.tune.Tuner`.

    Args:
        config: a task's config; its `tune` section says what is None here.
        tune_config: Ray's: metric (a dotted name such as "test.accuracy.top_1"), mode, number of samples, scheduler ...
        run_config: Ray's `tune.RunConfig`: name, storage path, callbacks, stop, failure and checkpoint settings.
        trainer: gives each trial its workers, and says where the cluster is; None takes the config's `ray` section.
        resume: the folder of an earlier sweep, whose unfinished trials go on and whose missing ones are run.
        extend: the folder of a sweep to which more is added.
        num_samples: with `extend`, how many samples are added.
        num_epochs: with `extend`, to how many epochs its best trials are trained.
        best: with `num_epochs`, how many trials.
        progress: whether to show the table.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        tune_config: tune.TuneConfig | None = None,
        run_config: tune.RunConfig | None = None,
        trainer: RayTrainer | None = None,
        *,
        resume: str | None = None,
        extend: str | None = None,
        num_samples: int = 0,
        num_epochs: int | float | None = None,
        best: int = 3,
        progress: bool = True,
    ) -> None:
        self.config = config
        self.tune_config = tune_config
        self.run_config = run_config
        self.trainer = trainer
        self.resume = resume
        self.extend = extend
        self.num_samples = num_samples
        self.num_epochs = num_epochs
        self.best = best
        self.progress = progress

    def fit(self) -> SweepResult:
        """Runs the sweep to its end.

        Raises:
            ConfigError: something in the config cannot be; the message lists everything, with file and line.
            RunFolderError: the sweep's folder cannot be used.
            ResourceError: a trial needs more than the cluster has.
            RunError: every trial failed.
            KeyboardInterrupt: the user stopped it; it can be resumed.
        """
        plan = planned(self)
        filesystem = plan.filesystem
        if plan.earlier is None:
            SweepFolder.planned(plan.storage_path, plan.name, filesystem)
        with shown(), connected(plan.trainer.address, plan.trainer.verbose), environment(_SETTINGS):
            most = _concurrency(plan.scaling)
            with _opened(plan) as folder:
                check_visible(folder.path, [])
                return _Sweep(self, plan, folder, most).run()


class Plan:
    """A sweep without mistakes.

    Attributes:
        space: what is searched.
        tune_config: Ray's, complete.
        examined: what its values showed.
        trainer: gives trials their workers.
        scaling: of a trial.
        workers: of a trial.
        seed: of the sweep.
        stop: ends trials, and the sweep.
        storage_path: the folder of sweeps.
        name: of the sweep; None makes one from the time.
        earlier: the folder of the sweep that is resumed or extended.
        filesystem: in which the folder lies.
    """

    def __init__(self, tuner: TaskTuner) -> None:
        config = tuner.config
        import_modules(config)
        self.space = Space(config)
        if not self.space.nodes:
            raise ConfigError(
                f"{mark_of(config, ())}: nothing is searched: put a search node in place of a value, such as "
                f"{{search: loguniform, lower: 0.001, upper: 1.0}}"
            )
        section = dict(config.get("tune") or {})
        ray_section = dict(config.get("ray") or {})
        problems = problems_in(section, tune_keys(), ("tune",)) + problems_in(ray_section, ray_keys(), ("ray",))
        raise_problems(problems, config)
        chosen = tune_config_of(section, tuner.tune_config)
        self._place(tuner, ray_section)
        self.seed = config.get("seed", 0) if isinstance(config.get("seed", 0), int) else 0
        examined = self.examined = examine(self.space, self.workers, bool(self.scaling.use_gpu))
        run_config = tuner.run_config or tune.RunConfig()
        stop = run_config.stop if run_config.stop is not None else section.get("stop") or {}
        named = stop if isinstance(stop, Mapping) else {}
        chosen = with_metric(chosen, config, examined.metrics, named)
        self.stop = Stop(stop, chosen.time_budget_s)
        sweep = Sweep(self.space, examined.epochs, self.seed, examined.mutable)
        self.tune_config = with_parts(chosen, section, config, sweep)
        self.callbacks = [Guarded(callback) for callback in run_config.callbacks or []]
        self.max_failures = max(run_config.failure_config.max_failures, ray_section.get("max_failures") or 0)
        kept = ray_section.get("num_to_keep") or (run_config.checkpoint_config.num_to_keep or 2)
        self.keep = max(2, kept)
        path = tuner.resume or tuner.extend
        self.earlier = existing_sweep(path, self.filesystem) if path else None

    def _place(self, tuner: TaskTuner, ray_section: dict[str, Any]) -> None:
        """Where trials run, and where the sweep is kept."""
        config, run_config = tuner.config, tuner.run_config
        trainer = self.trainer = copy.copy(tuner.trainer or RayTrainer())
        self.name = (run_config.name if run_config is not None else None) or trainer.name or ray_section.pop("name", None)
        with located(config, "ray"):
            scaling, train_config, trainer.address = trainer.settings_of({"ray": ray_section})
        workers = scaling.num_workers
        if isinstance(workers, tuple):
            raise ConfigError(
                f"{mark_of(config, ('ray', 'num_workers'))}: ray.num_workers: trials of a sweep have a fixed number of "
                f"workers, not {list(workers)}; give one number"
            )
        with located(config, "tune"):
            each = resources_per_worker(config.get("tune") or {}, workers)
        if each is not None:
            scaling = ScalingConfig(num_workers=workers, use_gpu=each.get("GPU", 0) > 0, resources_per_worker=each)
        self.scaling = trainer.scaling_config = scaling
        self.workers = workers
        given = run_config if run_config is not None and run_config.storage_path else train_config
        self.storage_path = trainer.storage_path or given.storage_path
        self.filesystem = given.storage_filesystem

    @property
    def total(self) -> float:
        """Trials of a sweep that is neither resumed nor extended; infinity for no end."""
        samples = self.tune_config.num_samples
        if samples == -1:
            return math.inf
        return samples * (self.space.grid_size if self.tune_config.search_alg is None else 1)


def planned(tuner: TaskTuner) -> Plan:
    """Checks a sweep as a whole, before anything is started for it.

    Raises:
        ConfigError: it has mistakes; the message lists them.
        RunFolderError: there is no sweep to go on with.
    """
    return Plan(tuner)


def _concurrency(scaling: ScalingConfig) -> int:
    """How many trials fit into the cluster at once.

    Raises:
        ResourceError: not one.
    """
    each = {name: float(amount) for name, amount in scaling._resources_per_worker_not_none.items() if amount}
    workers = scaling.num_workers
    possible, text = room_for(each)
    assert isinstance(workers, int)
    if possible < workers:
        raise ResourceError(
            f"a trial needs {workers} {'worker' if workers == 1 else 'workers'} x {_amounts(each)}, but {text}: "
            f"give a trial less (tune.resources_per_trial, ray.num_workers)"
        )
    return possible // workers


def _amounts(resources: Mapping[str, float]) -> str:
    return " + ".join(f"{amount:g} {name}" for name, amount in resources.items())


@contextlib.contextmanager
def _opened(plan: Plan) -> Iterator[SweepFolder]:
    """The sweep's folder, held for the block; how the block ended is written down in it."""
    folder: SweepFolder
    if plan.earlier is not None:
        folder = SweepFolder.resume(plan.earlier.path, plan.filesystem)  # type: ignore[assignment]
    else:
        folder = SweepFolder.create(plan.storage_path, plan.name, plan.filesystem)  # type: ignore[assignment]
    try:
        try:
            yield folder
        except BaseException as error:
            if folder.storage.exists("run.json"):
                folder.finish("failed", error=f"{type(error).__name__}: {error}")
            folder.remove_if_unused()
            raise
        folder.finish("finished")
    finally:
        folder.release()


class _Sweep:
    """One start of a sweep."""

    def __init__(self, tuner: TaskTuner, plan: Plan, folder: SweepFolder, most: int) -> None:
        self.tuner, self.plan, self.folder, self.most = tuner, plan, folder, most
        self.config, self.chosen = tuner.config, plan.tune_config
        self.records = {record.name: record for record in folder.trials()}
        self.total = self._total()
        metric, mode = str(self.chosen.metric), str(self.chosen.mode)
        self.table = Table(
            plan.space, metric, mode, plan.examined.epochs, self.total, self.records, shown=tuner.progress
        )
        self.metric, self.mode = metric, mode

    def run(self) -> SweepResult:
        """Runs what is left of the sweep."""
        self._describe()
        if self.tuner.extend is not None and self.tuner.num_epochs is not None:
            self._extend_best(self.tuner.num_epochs)
        left = self.total - len(self.records) + sum(not record.ended for record in self.records.values())
        if left > 0:
            self._tell(left)
            self._fit()
            self._look_at_the_end()
        self.table.finish()
        result = SweepResult(self.folder, self.records, self.table, self.metric, self.mode)
        if result.best is None:
            first = next((record for record in result.trials if record.reason), None)
            raise RunError(
                f"all {len(result)} trials failed" + (f"; {first.name}: {first.reason}" if first is not None else "")
            )
        best = result.best_config
        if best is not None:
            (best.get("ray") or {}).pop("name", None)
            self.folder.storage.write(BEST_FILE, dump_yaml(best).encode())
        return result

    # -- before -------------------------------------------------------------------------------------------------------

    def _total(self) -> float:
        if self.plan.earlier is None:
            return self.plan.total
        facts = self.plan.earlier.facts()
        before = math.inf if facts["total"] is None else facts["total"]
        if self.tuner.extend is None:
            return before
        grid = self.plan.space.grid_size if self.chosen.search_alg is None else 1
        return max(before if math.isfinite(before) else 0, len(self.records)) + self.tuner.num_samples * grid

    def _describe(self) -> None:
        """Writes down what is searched, or compares it with what was."""
        described = self.plan.space.described()
        if self.plan.earlier is not None:
            _refuse_changes(self.plan.earlier.facts()["config"], described, self.config, self.folder.path)
        file = getattr(self.config, "file", None)
        earlier = self.folder.facts() if self.plan.earlier is not None else {}
        self.folder.describe(
            dump_yaml(described),
            seed=self.plan.seed,
            metric=self.metric,
            mode=self.mode,
            total=None if math.isinf(self.total) else int(self.total),
            epochs=self.plan.examined.epochs,
            config=described,
            config_file=os.path.abspath(file) if file else earlier.get("config_file"),
        )

    def _extend_best(self, num_epochs: int | float) -> None:
        """Takes the best trials up again, to be trained to that many epochs."""
        done = [record for record in self.records.values() if record.ended and self.metric in record.metrics]
        for record in self.table.best(done)[: self.tuner.best]:
            if num_epochs <= record.params.get("num_epochs", 0) or record.epoch >= num_epochs:
                continue
            record.params = {**record.params, "num_epochs": num_epochs}
            record.state, record.reason = RUNNING, None
            self.folder.write_trial(record)

    def _tell(self, left: float) -> None:
        each = {name: amount for name, amount in self.plan.scaling._resources_per_worker_not_none.items() if amount}
        workers = self.plan.workers
        trials = "trials without end" if math.isinf(left) else f"{int(left)} {'trial' if left == 1 else 'trials'}"
        needs = _amounts(each) if workers == 1 else f"{workers} workers x {_amounts(each)}"
        self.table.told(f"sweep {self.folder.name}: {trials}, {self._at_once()} at a time, {needs} each; {self.metric}")

    def _at_once(self) -> int:
        limit = self.chosen.max_concurrent_trials or self.most
        return int(min(self.most, limit, self.total))

    # -- Ray Tune -----------------------------------------------------------------------------------------------------

    def _fit(self) -> None:
        plan, chosen, folder = self.plan, self.chosen, self.folder
        scheduler, searcher = chosen.scheduler, chosen.search_alg
        scheduler.set_search_properties(self.metric, self.mode)  # (False: it was made with its own)
        if searcher is not None:
            space = {node.name: node.domain for node in plan.space.nodes}
            searcher.set_search_properties(self.metric, self.mode, space)
        shared = isinstance(scheduler, PopulationBasedTraining)
        watch = Watch(
            folder,
            self.records,
            self.table,
            self.metric,
            self.mode,
            keep=max(plan.keep, math.ceil(getattr(scheduler, "_perturbation_interval", 0)) + 2) if shared else plan.keep,
            shared=shared,
            nested=plan.workers > 1,
            filesystem=plan.filesystem,
            why_stopped=self._why_stopped,
        )
        search = SweepSearch(
            plan.space,
            plan.seed,
            list(self.records.values()),
            self.total,
            chosen.max_concurrent_trials or math.inf,
            searcher,
            watch.begin,
            self._history,
        )
        with host_rng_kept(), interrupt_handler_kept(), environment({"TUNE_MAX_PENDING_TRIALS_PG": str(self.most + 1)}):
            seed_host(derive_seed(plan.seed, 1))
            search.replay(scheduler, self.metric)
            folder.storage.remove("ray")
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
                    storage_path=folder.path,
                    storage_filesystem=plan.filesystem,
                    stop=plan.stop,
                    callbacks=[watch, *plan.callbacks],
                    failure_config=tune.FailureConfig(max_failures=plan.max_failures),
                    checkpoint_config=tune.CheckpointConfig(num_to_keep=8, checkpoint_at_end=False),
                    verbose=0,
                ),
            )
            try:
                tuner.fit()
            except tune.TuneError as error:
                raise RunError(f"Ray Tune failed: {error}. Go on with --resume {folder.path}") from error

    def _job(self) -> Job:
        plan = self.plan
        job = Job(
            space=plan.space,
            folder=self.folder.path,
            filesystem=plan.filesystem,
            metric=self.metric,
            trainer=plan.trainer,
            workers=plan.workers,
            command=sys.argv,
            cwd=os.getcwd(),
            path=own_folders(),
        )
        pickled(job)
        return job

    def _resources(self) -> tune.PlacementGroupFactory:
        """What Ray Tune reserves for a trial.

        A trial of one worker is that worker. One of several only waits for them, and Ray Tune must not start more such
        trials than there is room for: each holds its part of a resource of which there is one.
        """
        plan = self.plan
        if plan.workers == 1:
            each = {name: amount for name, amount in plan.scaling._resources_per_worker_not_none.items() if amount}
            return tune.PlacementGroupFactory([each])
        at_once = self._at_once()
        return tune.PlacementGroupFactory([{_HEAD: math.floor((1 - 0.002 * at_once) / at_once * 1e4) / 1e4}])

    def _history(self, record: TrialRecord) -> list[dict[str, Any]]:
        storage = self.folder.trial_run(record.name, self.plan.filesystem).storage
        return [flat(report) for report in Reports(storage).read()]

    def _why_stopped(self, result: dict[str, Any]) -> str:
        reason = self.plan.stop.reason(result)
        name = type(self.chosen.scheduler).__name__
        short = {entry.class_name: name for name, entry in SCHEDULER_REGISTRY.items()}
        return reason or f"by {short.get(name, name)} at epoch {result.get('epoch', 0)}"

    # -- after --------------------------------------------------------------------------------------------------------

    def _look_at_the_end(self) -> None:
        """Trials that are not over were stopped by the sweep's own limits, or by the user."""
        unfinished = [record for record in self.records.values() if not record.ended]
        missing = not math.isinf(self.total) and len(self.records) < self.total
        if not (unfinished or missing):
            return
        if self.plan.stop.over is None:
            self.table.finish()
            raise KeyboardInterrupt(self.folder.path)
        for record in unfinished:
            record.state, record.reason = "stopped", self.plan.stop.over
            self.folder.write_trial(record)


def _refuse_changes(before: dict[str, Any], now: dict[str, Any], config: Any, path: str) -> None:
    """Refuses to go on with a sweep of something else.

    Raises:
        RunFolderError: the message says what changed.
    """
    old, new = (_flat(described) for described in (before, now))
    changed = []
    for name in [*new, *(name for name in old if name not in new)]:
        if any(name == free or name.startswith(f"{free}.") for free in _FREE_TO_CHANGE):
            continue
        if old.get(name) != new.get(name):
            was = old.get(name, "(nothing)")
            now_is = new.get(name, "(nothing)")
            changed.append(f"  {name}: {was} -> {now_is}")
    if changed:
        more = ["  ..."] if len(changed) > 20 else []
        raise RunFolderError(
            "\n".join(
                [
                    f"the sweep {path!r} is of another config; what changed:",
                    *changed[:20],
                    *more,
                    "Leave the config out to go on with the sweep's own (--resume RUN), add samples or epochs with "
                    "--extend RUN, or give the new sweep another name",
                ]
            )
        )


def _flat(value: Any, path: tuple[str | int, ...] = ()) -> dict[str, Any]:
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {dotted(path): value}
    found: dict[str, Any] = {}
    for step, inner in items:
        found.update(_flat(inner, (*path, step)))
    return found
