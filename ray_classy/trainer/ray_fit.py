"""Runs a task on the workers of Ray Train: what is sent to them, and who watches over them."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig
from ray.train.torch import TorchTrainer

from ray_classy.errors import RunError
from ray_classy.ingest.planned_shards import PlannedShards
from ray_classy.ingest.ray_feed import Feeding
from ray_classy.ingest.ray_ingest import detached_shards
from ray_classy.printable import shell_word
from ray_classy.ray_compat.cluster import has_dashboard, remove_groups_of
from ray_classy.ray_compat.train import FILES_IN_RUNS, failure_policy, scaling_policy, trainer_class
from ray_classy.storage import Storage
from ray_classy.tasks import ClassyTask
from ray_classy.trainer.interrupts import install_stop_handlers
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.ray_config import RaySettings
from ray_classy.trainer.ray_failures import Retries, cause
from ray_classy.trainer.ray_start import FreeRoom
from ray_classy.trainer.ray_worker import WorkerJob, train_on_worker
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_display import RunView
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.shipping import pickled
from ray_classy.urls import is_url, located
from ray_classy.user_code import Search

_log = logging.getLogger(__name__)


def fit_run(
    task: ClassyTask,
    folder: RunFolder,
    settings: RaySettings,
    run_config: RunConfig,
    retention: Retention,
    listeners: Sequence[Listener],
    view: RunView,
) -> dict[str, Any]:
    """Trains the task of a run, which survives failures of workers and of Ray Train's controller.

    Args:
        task: is sent to the workers as it is.
        folder: of the run.
        settings: of the run.
        run_config: Ray's, with the name and the storage path under which Ray keeps its own files.
        retention: which checkpoints are kept.
        listeners: follow the session on each worker.
        view: says what is done.

    Returns:
        What `train_on_worker` returns on the primary rank.
    """
    watched = RunFolder(folder.path, folder.storage.filesystem, folder.token)
    failures = run_config.failure_config or FailureConfig()
    room = FreeRoom(settings.scaling, watched, settings.wait_for_resources_s)
    retries = Retries(failures.max_failures, watched, settings.torch_config.timeout_s)
    policies = {
        "scaling_policy": scaling_policy(settings.scaling, room, settings.autoscaling or settings.elastic),
        "failure_policy": failure_policy(failures, retries.decide),
    }
    stops = None if task.test_only else functools.partial(install_stop_handlers, folder.requests.stop)
    trainer = trainer_class(policies, keeps_cleaner=has_dashboard(), when_started=stops)
    view.working("copying the data and the model to the cluster")
    sent = _sent(task, folder, settings, listeners, retention)
    view.working(f"starting {settings.most_workers} worker{'' if settings.most_workers == 1 else 's'}", line=True)
    return _fit(trainer, *sent, settings, run_config, folder)


def fit_trial(
    task: ClassyTask, folder: RunFolder, settings: RaySettings, run_config: RunConfig, listeners: Sequence[Listener]
) -> dict[str, Any]:
    """The same for a trial, which Ray Tune tries again; the sweep's driver removes its checkpoints."""
    trainer = trainer_class({}, keeps_cleaner=False)
    sent = _sent(task, folder, dataclasses.replace(settings, ingest="worker"), listeners, None)
    return _fit(trainer, *sent, settings, run_config, folder)


def _fit(
    trainer: type[TorchTrainer],
    job: WorkerJob,
    shards: Mapping[str, Any],
    settings: RaySettings,
    run_config: RunConfig,
    folder: RunFolder,
) -> dict[str, Any]:
    """Runs Ray Train's controller, and starts it again when its process dies, as often as failures are allowed."""
    ray_folder = Storage(f"{run_config.storage_path}/{run_config.name}", run_config.storage_filesystem)
    deaths, allowed = 0, run_config.failure_config.max_failures if run_config.failure_config else 0
    while True:
        # Ray resumes from the list of checkpoints that an earlier controller left, and fails if one of them was removed
        # since (ray.num_to_keep), or if another version of Ray wrote the list. The session knows what to resume from.
        # Where one of Ray's files is a link, Ray would write to what it leads to.
        for name in FILES_IN_RUNS:
            remove_any(ray_folder, name)
        planned = PlannedShards()
        fitting = trainer(
            train_on_worker,
            train_loop_config={"job": job},
            torch_config=settings.torch_config,
            scaling_config=settings.scaling,
            run_config=run_config,
            datasets=dict(shards),
            dataset_config=planned,
        )
        try:
            return fitting.fit().return_value
        except ray.train.TrainingFailedError as error:
            raise cause(error, settings.torch_config.timeout_s) from None
        except SystemExit:  # what Ray's handler of Ctrl-C ends with, when it has stopped the workers
            raise KeyboardInterrupt from None
        except ray.exceptions.RayActorError as error:
            if error.actor_id:
                remove_groups_of(error.actor_id)
            deaths += 1
            died = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
            if 0 <= allowed < deaths:
                raise RunError(
                    f"Ray Train's controller died: {died}. Resume with --resume {shell_word(folder.path)}, or "
                    f"let runs recover by themselves (ray.max_failures)"
                ) from None
            _log.warning("Ray Train's controller died (%s): starting it again", died)
        finally:
            planned.end()


def _sent(
    task: ClassyTask,
    folder: RunFolder,
    settings: RaySettings,
    listeners: Sequence[Listener],
    retention: Retention | None,
) -> tuple[WorkerJob, dict[str, Any]]:
    """What the workers get: their job, and the datasets in shared memory, by phase type."""
    shards, blob = _shards_and_task(task)
    job = WorkerJob(
        task=ray.put(blob),
        run=(folder.path, folder.storage.filesystem, folder.token),
        retention=retention,
        ranks=settings.most_workers if settings.elastic else None,
        waits=settings.upload_mode == "SYNC",
        listeners=listeners,
        shards=frozenset(shards),
        feeding=Feeding(
            {phase_type: settings.ingest_of(phase_type) for phase_type in task.datasets},
            settings.ingest_memory,
            settings.most_workers,
        ),
        cwd=os.getcwd(),
        search=Search.here(),
    )
    return job, shards


def _shards_and_task(task: ClassyTask) -> tuple[dict[str, Any], bytes]:
    """The datasets in shared memory, by phase type, and the pickled task without their rows."""
    with detached_shards(task.datasets) as shards:
        return shards, pickled(task)


def remove_any(folder: Storage, name: str) -> None:
    """Removes what Ray left under a name: a file, a folder, or a link to either, which Ray would follow."""
    folder.remove(name)
    folder.remove_file(name)


def ray_storage(path: str, filesystem: Any) -> tuple[str, Any]:
    """A folder as Ray's config objects take it: Ray drops the query of a URL, which may name an endpoint.

    Args:
        path: local or a URL.
        filesystem: in which it lies; None finds it from the path.
    """
    if filesystem is not None or not is_url(path):
        return path, filesystem
    filesystem, inner = located(path)
    return inner, filesystem
