"""The plan of a sweep, checked before anything is started."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.train import ScalingConfig
from ray.tune.schedulers import HyperBandScheduler, PopulationBasedTraining

from ray_classy.config import mark_of, problems_in, raise_problems
from ray_classy.config.imports import import_modules
from ray_classy.config.places import locate_errors
from ray_classy.config.ray_options import RayOptions, amounts, resource_problems
from ray_classy.errors import ConfigError, ResourceError
from ray_classy.ray_compat.train import resources_per_worker
from ray_classy.seeding import derive_seed
from ray_classy.trainer.ray_cluster import check_room_for_pipelines, cpus_of_cluster, room_for
from ray_classy.trainer.ray_config import check_gpu_shares
from ray_classy.trainer.ray_trainer import RayTrainer
from ray_classy.trainer.retention import Retention
from ray_classy.tune.examine import examine
from ray_classy.tune.folder import SweepFolder, TrialRecord, existing_sweep
from ray_classy.tune.parts import Sweep
from ray_classy.tune.section import Stop, trial_resources_per_worker, tune_config_of, tune_keys, with_metric, with_parts
from ray_classy.tune.space import Space
from ray_classy.tune.watch import Guarded

if TYPE_CHECKING:
    from ray_classy.tune.tuner import TaskTuner

MOST_SHARES = 20
"""More shares of a resource would be too small; as many trials are a population of their own."""
_KEPT_CHECKPOINTS = 2  # of the best of a trial, beside its newest


class Plan:
    """A sweep without mistakes: it is checked as a whole when this is made, before anything is started for it.

    Args:
        tuner: what was asked for.

    Raises:
        ConfigError: there are mistakes; the message lists them.
        RunFolderError: there is no sweep to resume or extend.

    Attributes:
        space: what is searched.
        tune_config: Ray's, complete.
        examined: what its values showed.
        settings: how a trial uses the cluster.
        workers: of a trial.
        retention: which checkpoints of a trial are kept.
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
        problems = problems_in(section, tune_keys(), ("tune",)) + problems_in(ray_section, RayOptions.keys(), ("ray",))
        for resources, place in (
            (ray_section.get("resources_per_worker"), ("ray", "resources_per_worker")),
            (section.get("resources_per_trial"), ("tune", "resources_per_trial")),
        ):
            problems += resource_problems(resources, place) if isinstance(resources, dict) else []
        raise_problems(problems, config)
        chosen = tune_config_of(section, tuner.tune_config)
        self._place(tuner, ray_section)
        self.seed = config.get("seed", 0) if isinstance(config.get("seed", 0), int) else 0
        examined = self.examined = examine(self.space, self.workers, bool(self.settings.scaling.use_gpu))
        run_config = tuner.run_config or tune.RunConfig()
        stop = run_config.stop if run_config.stop is not None else section.get("stop") or {}
        named = stop if isinstance(stop, Mapping) else {}
        chosen = with_metric(chosen, config, examined.metrics, named)
        self.stop = Stop(stop, chosen.time_budget_s)
        earlier = tuner.resume or tuner.extend
        self.earlier = existing_sweep(earlier, self.filesystem) if earlier else None
        before = len(self.records_in(self.earlier)) if self.earlier is not None else 0
        # A search algorithm that knows earlier trials must not draw the same values again.
        seed = derive_seed(self.seed, before) & 0x7FFFFFFF if before else self.seed
        sweep = Sweep(self.space, examined.epochs, seed, examined.mutable)
        self.tune_config = with_parts(chosen, section, config, sweep)
        pauses = isinstance(self.tune_config.scheduler, PopulationBasedTraining | HyperBandScheduler)
        if examined.sparse and pauses:
            raise ConfigError(
                f"{mark_of(config, ('hooks',))}: hooks: checkpoint_period must be 1 with this scheduler, which resumes "
                f"trials from the checkpoint of any epoch"
            )
        self.callbacks = [Guarded(callback) for callback in run_config.callbacks or []]
        self.max_failures = run_config.failure_config.max_failures or self.settings.max_failures
        asked = Retention.of(self.settings.run_config.checkpoint_config)
        asked.check(examined.metrics, config)
        self.retention = Retention(
            run_config.checkpoint_config.num_to_keep or asked.num_to_keep or _KEPT_CHECKPOINTS,
            asked.metric or str(chosen.metric),
            asked.order if asked.metric else str(chosen.mode),
        )

    def records_in(self, folder: SweepFolder) -> list[TrialRecord]:
        """Returns the records of the trials in the sweep's folder.

        Raises:
            RecordError: one is damaged, or is of another search space.
        """
        records = folder.trials()
        nodes = {node.name: node.labels for node in self.space.nodes}
        for record in records:
            if "num_epochs" not in nodes:  # version 0.1 recorded an extension as a parameter
                record.num_epochs = record.num_epochs or record.params.pop("num_epochs", None)
            folder.check_params(record, nodes)
        return records

    def _place(self, tuner: TaskTuner, ray_section: dict[str, Any]) -> None:
        """Where trials run, and where the sweep is kept."""
        config, run_config = tuner.config, tuner.run_config
        trainer = tuner.trainer or RayTrainer()
        named = run_config.name if run_config is not None else None
        self.name = named or trainer.name or ray_section.get("name")
        with locate_errors(config, "ray"):
            settings = trainer.settings(ray_section)
        workers = settings.scaling.num_workers
        if isinstance(workers, tuple):
            raise ConfigError(
                f"{mark_of(config, ('ray', 'num_workers'))}: ray.num_workers: trials of a sweep have a fixed number of "
                f"workers, not {list(workers)}; give one number"
            )
        with locate_errors(config, "tune"):
            each = trial_resources_per_worker(config.get("tune") or {}, workers)
            if each is not None:
                scaling = ScalingConfig(num_workers=workers, use_gpu=each.get("GPU", 0) > 0, resources_per_worker=each)
                check_gpu_shares(scaling, settings.torch_config)
                settings = dataclasses.replace(settings, scaling=scaling)
        self.settings, self.workers = settings, workers
        given = run_config if run_config is not None and run_config.storage_path else settings.run_config
        self.storage_path = trainer.storage_path or given.storage_path
        self.filesystem = given.storage_filesystem

    def open_folder(self) -> SweepFolder:
        """Makes the sweep's folder, or opens that of the earlier sweep, and locks it.

        Raises:
            RunFolderError: the name is taken, or another process runs the sweep.
        """
        if self.earlier is not None:
            return SweepFolder.resume(self.earlier.path, self.filesystem)
        return SweepFolder.create(self.storage_path, self.name, self.filesystem)

    @property
    def total(self) -> float:
        """Trials of a sweep that is neither resumed nor extended; infinity for no end."""
        samples = self.tune_config.num_samples
        if samples == -1:
            return math.inf
        return samples * (self.space.grid_size if self.tune_config.search_alg is None else 1)


def concurrency(scaling: ScalingConfig, streamed: Sequence[str] = ()) -> int:
    """Returns the number of trials that fit into the cluster at once.

    Args:
        scaling: of a trial.
        streamed: the phase types whose pipelines run beside the trials, on CPUs that no trial takes.

    Raises:
        ResourceError: not one.
    """
    each = resources_per_worker(scaling)
    workers = scaling.num_workers
    possible, text = room_for(each)
    assert isinstance(workers, int)
    if possible < workers:
        raise ResourceError(
            f"a trial needs {workers} {'worker' if workers == 1 else 'workers'} x {amounts(each)}, but {text}: "
            f"give a trial less (tune.resources_per_trial, ray.num_workers)"
        )
    at_once = possible // workers
    if streamed:
        check_room_for_pipelines(scaling, streamed)
        at_once = beside_pipelines(at_once, cpus_of_cluster(), workers * each.get("CPU", 0.0))
    return at_once


def beside_pipelines(trials: int, cpus: float, of_a_trial: float) -> int:
    """Returns the number of trials that leave one CPU of the cluster to the pipeline of each.

    Args:
        trials: the largest number.
        cpus: of the cluster.
        of_a_trial: CPUs that one trial reserves.
    """
    return min(trials, int((cpus + 1e-6) // (of_a_trial + 1)))


def share_of_head(trials: int) -> float:
    """Returns a part of a resource of which there is one, so large that it is there for so many trials and no more.

    Ray counts in steps of 0.0001, and rounds some multiples of them down.
    """
    return 0.0001 if trials > MOST_SHARES else (10_000 // (trials + 1) + 2) / 10_000
