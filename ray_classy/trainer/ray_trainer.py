"""Training on a Ray cluster."""

from __future__ import annotations

import dataclasses
import functools
import io
import logging
import os
from collections.abc import Mapping
from typing import Any, Literal

import ray
import torch
from ray.train import CheckpointConfig, CheckpointUploadMode, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from ray_classy.config import problems_in, raise_problems
from ray_classy.dataset.row_dataset import data_files
from ray_classy.errors import ComponentError, RunError, RunStopped
from ray_classy.ingest.ray_ingest import PlannedShards, detached_shards
from ray_classy.ingest.store_memory import warn_if_too_large
from ray_classy.ray_compat.cluster import has_dashboard, remove_groups_of
from ray_classy.ray_compat.train import SNAPSHOT_FILE, failure_policy, given_name, scaling_policy, trainer_class
from ray_classy.storage import Storage
from ray_classy.tasks import ClassyTask, check_task
from ray_classy.trainer.classy_trainer import ClassyTrainer
from ray_classy.trainer.interrupts import first_stops, handlers_kept
from ray_classy.trainer.local_trainer import check_place, opened_run, result_of
from ray_classy.trainer.logs import followed, shown
from ray_classy.trainer.ray_cluster import check_resources, check_visible, connected
from ray_classy.trainer.ray_config import check_gpu_shares, ray_configs, ray_keys
from ray_classy.trainer.ray_failures import Retries, cause
from ray_classy.trainer.ray_scaling import FreeRoom
from ray_classy.trainer.ray_worker import RaySession, train_on_worker
from ray_classy.trainer.result import Result
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.shipping import own_folders, pickled
from ray_classy.urls import is_url, located, parent

_log = logging.getLogger(__name__)


class RayTrainer(ClassyTrainer):
    """Trains on the workers of one `ray.train.torch.TorchTrainer`, whose rows come from Ray Data.

    What is None is taken from the `ray` section of the config that the task was built from, if it was.

    Args:
        scaling_config: how many workers, and what each gets; at last, one worker with one CPU.
        run_config: Ray's; its name and storage path are those of the run folder.
        torch_config: Ray's settings of the process group.
        storage_path: the folder of runs, in place of the one in `run_config`; None is `runs` in the working directory.
        name: the run's name, in place of the one in `run_config`; None makes one from the time.
        resume: the folder of an earlier run to go on with, in place of the other two.
        address: of the cluster; None takes RAY_ADDRESS, and without it starts a local Ray. A Ray that this process is
            connected to is used as it is.
        verbose: let Ray and the workers print.
        wait_for_resources_s: how long to wait for resources that others hold, in seconds.
        checkpoint_upload_mode: "ASYNC" writes checkpoints while training goes on, "SYNC" waits for each (or Ray's
            `CheckpointUploadMode` of that name); None is "ASYNC".

    Raises:
        ComponentError: there is no such mode.
    """

    def __init__(
        self,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        torch_config: TorchConfig | None = None,
        *,
        storage_path: str | None = None,
        name: str | None = None,
        resume: str | None = None,
        address: str | None = None,
        verbose: bool = False,
        wait_for_resources_s: float = 60.0,
        checkpoint_upload_mode: Literal["ASYNC", "SYNC"] | CheckpointUploadMode | None = None,
    ) -> None:
        self.scaling_config = scaling_config
        self.run_config = run_config
        self.torch_config = torch_config
        self.storage_path = storage_path
        self.name = name
        self.resume = resume
        self.address = address
        self.verbose = verbose
        self.wait_for_resources_s = wait_for_resources_s
        self.checkpoint_upload_mode = getattr(checkpoint_upload_mode, "value", checkpoint_upload_mode)
        if self.checkpoint_upload_mode not in ("ASYNC", "SYNC", None):
            raise ComponentError(
                f"checkpoint_upload_mode must be 'ASYNC' or 'SYNC', not {self.checkpoint_upload_mode!r}: checkpoints "
                f"are written to their place at once"
            )

    def train(self, task: ClassyTask) -> Result:
        """Trains the task to its end on the cluster; the caller's task holds the final state afterwards.

        Raises:
            RayClassyError: the task, its data, the run folder or the cluster cannot be used; nothing was trained.
            FloatingPointError: the loss became infinite or not a number.
            RunError: training failed on a worker; the message has the worker's traceback.
            RunStopped: Ctrl-C was pressed, and a checkpoint is written. (At the second Ctrl-C, KeyboardInterrupt.)
        """
        check_task(task)
        config = task.built_from or {}
        scaling, run_config, address = self.settings_of(config)
        check_gpu_shares(scaling, self.torch_config_of(config))
        retention = Retention.of(run_config.checkpoint_config)
        retention.check(task)
        workers = scaling.num_workers
        task.preflight(workers[-1] if isinstance(workers, tuple) else workers, bool(scaling.use_gpu))
        place = (self.storage_path or run_config.storage_path, self.name or given_name(run_config), self.resume)
        check_place(*place, run_config.storage_filesystem)
        with shown(), connected(address, self.verbose):
            check_resources(scaling, self.wait_for_resources_s)
            warn_if_too_large(dict(task.datasets), ray.cluster_resources().get("object_store_memory", 0.0))
            with opened_run(*place, task, run_config.storage_filesystem) as run:
                check_visible(run.path, data_files(task.datasets.values()))
                with followed(run), handlers_kept():
                    answer = self.fit(task, run, scaling, _in_folder(run_config, run), retention=retention)
                if "stopped" in answer:
                    raise RunStopped(answer["stopped"])
        _take_final_state(task, run, answer)
        return result_of(run)

    def settings_of(self, config: Mapping[str, Any]) -> tuple[ScalingConfig, RunConfig, str | None]:
        """What was given, filled up from the `ray` section of a config."""
        section = dict(config.get("ray") or {})
        raise_problems(problems_in(section, ray_keys(), ("ray",)), config)
        address = section.pop("address", None)
        configured = ray_configs(section)
        scaling = self.scaling_config or configured["scaling_config"]
        if scaling.num_workers == 0:
            raise ComponentError("num_workers is 0; to train in this process use LocalTrainer (--local)")
        return scaling, self.run_config or configured["run_config"], self.address or address

    def torch_config_of(self, config: Mapping[str, Any]) -> TorchConfig:
        """Ray's settings of the process group: what was given, or else those of the `ray` section of a config."""
        return self.torch_config or ray_configs(config.get("ray") or {})["torch_config"]

    def fit(
        self,
        task: ClassyTask,
        run: RunFolder,
        scaling: ScalingConfig,
        run_config: RunConfig,
        session: type[RaySession] = RaySession,
        retention: Retention | None = None,
    ) -> dict[str, Any]:
        """Trains on the workers, and returns what `train_on_worker` does on the primary rank.

        Args:
            task: is shipped as it is.
            run: its folder.
            scaling: how many workers there are, and what each gets.
            run_config: Ray's, with the name and the storage path under which Ray keeps what it keeps.
            session: what the run is to the workers.
            retention: which checkpoints are kept; None keeps all.
        """
        config = task.built_from or {}
        mode = self.checkpoint_upload_mode or (config.get("ray") or {}).get("checkpoint_upload_mode")
        shards, blob = _shards_and_task(task)
        job = {
            "task": ray.put(blob),
            "run": (run.path, run.storage.filesystem, run.token),
            "session": session,
            "retention": retention,
            "ranks": scaling.num_workers[-1] if isinstance(scaling.num_workers, tuple) else None,
            "waits": mode == "SYNC",
            "shards": sorted(shards),
            "cwd": os.getcwd(),
            "path": own_folders(),
        }
        policies: dict[str, Any] = {}
        if session is RaySession:
            away = RunFolder(run.path, run.storage.filesystem, run.token)
            failures = run_config.failure_config or FailureConfig()
            policies["scaling_policy"] = scaling_policy(scaling, FreeRoom(scaling, away, self.wait_for_resources_s))
            policies["failure_policy"] = failure_policy(failures, Retries(failures.max_failures, away).decide)
        stops = None if task.test_only else functools.partial(first_stops, run.request_stop)
        # A trial is stopped by ending its controller, and frees what its workers hold by itself.
        trainer = trainer_class(policies, keeps_cleaner=bool(policies) and has_dashboard(), when_started=stops)
        torch_config = self.torch_config_of(config)
        deaths = 0
        while True:
            try:
                return _fit_once(trainer, job, scaling, run_config, torch_config, shards)
            except ray.exceptions.RayActorError as error:
                if error.actor_id:
                    remove_groups_of(error.actor_id)
                deaths += 1
                allowed = run_config.failure_config.max_failures if run_config.failure_config else 0
                if 0 <= allowed < deaths:
                    raise RunError(
                        f"Ray Train's controller died: {_first_line(error)}. Go on with --resume {run.path}, or let "
                        f"runs go on by themselves (ray.max_failures)"
                    ) from None
                _log.warning("Ray Train's controller died (%s): starting it again", _first_line(error))


def _fit_once(
    trainer: type[TorchTrainer],
    job: dict[str, Any],
    scaling: ScalingConfig,
    run_config: RunConfig,
    torch_config: TorchConfig,
    shards: dict[str, Any],
) -> dict[str, Any]:
    """Runs one controller to its end; what it died of is raised as Ray has it."""
    # Ray resumes from the list of checkpoints that an earlier controller left, and fails if one of them was removed
    # since (ray.num_to_keep), or if another version of Ray wrote the list. The session knows what to resume from.
    Storage(f"{run_config.storage_path}/{run_config.name}", run_config.storage_filesystem).remove_file(SNAPSHOT_FILE)
    fitting = trainer(
        train_on_worker,
        train_loop_config=job,
        torch_config=torch_config,
        scaling_config=scaling,
        run_config=run_config,
        datasets=shards,
        dataset_config=PlannedShards(),
    )
    try:
        return fitting.fit().return_value
    except ray.train.TrainingFailedError as error:
        raise cause(error) from None
    except SystemExit:  # what Ray's handler of Ctrl-C ends with, when it has stopped the workers
        raise KeyboardInterrupt from None


def _in_folder(config: RunConfig, run: RunFolder) -> RunConfig:
    """Ray's settings for this run: its folder is where Ray keeps what it keeps, and the session removes checkpoints."""
    config = dataclasses.replace(config, checkpoint_config=CheckpointConfig())
    above = parent(run.path.rstrip("/"))
    if run.storage.filesystem is not None or not is_url(above):
        return dataclasses.replace(config, name=run.name, storage_path=above)
    filesystem, path = located(above)  # Ray would drop the query of a URL
    return dataclasses.replace(config, name=run.name, storage_path=path, storage_filesystem=filesystem)


def _shards_and_task(task: ClassyTask) -> tuple[dict[str, Any], bytes]:
    """The datasets that Ray Data reads, by phase type, and the pickled task without their rows."""
    with detached_shards(task.datasets) as shards:
        return shards, pickled(task)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def _take_final_state(task: ClassyTask, run: RunFolder, answer: Mapping[str, Any]) -> None:
    """Gives the caller's task what the workers' tasks ended with."""
    names = run.checkpoints()
    if task.test_only:
        task.set_evaluation_state(torch.load(io.BytesIO(answer["evaluation"]), weights_only=True))
    elif names:
        task.set_classy_state(run.load_checkpoint(names[-1])["classy_state_dict"])
