"""The tuner: a sweep, which is a search over a task config with search nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

from ray_classy.distributed import check_single_process
from ray_classy.ray_compat import settings as settings_of_ray
from ray_classy.trainer.interrupts import interruptible
from ray_classy.trainer.logs import log_to_stderr
from ray_classy.trainer.ray_cluster import check_resources, check_visible
from ray_classy.trainer.ray_connection import environment
from ray_classy.trainer.ray_trainer import RayTrainer
from ray_classy.trainer.run import Run
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH
from ray_classy.tune.folder import SweepFolder
from ray_classy.tune.plan import Plan, concurrency
from ray_classy.tune.result import SweepResult
from ray_classy.tune.sweep_run import SweepRun
from ray_classy.urls import reading


class TaskTuner:
    """Searches over a task config in which search nodes replace some values; follows `ray.tune.Tuner`.

    Args:
        config: a task's config with search nodes.
        tune_config: Ray's: metric (a dotted name such as "test.accuracy.top_1"), mode, number of samples, scheduler
            ...; None takes the config's `tune` section, from which a scheduler or search algorithm is also taken that
            it lacks. Processes are always reused, and trials have names of their own.
        run_config: Ray's `tune.RunConfig`, of which name, storage path, callbacks, stop, max_failures and num_to_keep
            count.
        trainer: gives each trial its workers, and says where the cluster is; None takes the config's `ray` section.
        resume: the folder of an earlier sweep, whose unfinished trials are resumed and whose missing ones are run.
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
        check_single_process(type(self).__name__)
        plan = Plan(self)
        settings = plan.settings
        weights = {source: source.read() for source in plan.examined.weights}  # before a cluster is asked for anything
        if plan.earlier is None:
            with reading(plan.storage_path or DEFAULT_STORAGE_PATH):
                SweepFolder.planned(plan.storage_path, plan.name, plan.filesystem)
        with interruptible(), log_to_stderr(), settings.connected(), environment(settings_of_ray.TUNE):
            if settings.autoscaling:  # until there is room for a trial
                check_resources(settings.scaling, settings.wait_for_resources_s, autoscaling=True)
            most = concurrency(settings.scaling, plan.examined.streamed)
            check_resources(settings.scaling, settings.wait_for_resources_s)
            with Run(plan.open_folder, reports=bool(self.config.get("report"))) as run:
                check_visible(run.folder.path, plan.examined.files)
                return SweepRun(self, plan, run.folder, most, weights).run()
