"""What each Ray Train worker runs."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import pickle
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from ray_classy.distributed import get_rank, get_world_size, is_primary
from ray_classy.errors import RunStopped
from ray_classy.ingest.ray_feed import Feeding
from ray_classy.ingest.ray_ingest import attach, attach_feeds
from ray_classy.ray_compat.train import checkpoint_in_run, preemption_is_near
from ray_classy.tasks import ClassyTask
from ray_classy.tasks.metrics import dotted
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.interrupts import leave_signals_to_driver
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.logs import log_to_folder
from ray_classy.trainer.progress_line import Figures
from ray_classy.trainer.ray_failures import mark
from ray_classy.trainer.ray_gauges import RunGauges
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession
from ray_classy.user_code import Search

_log = logging.getLogger(__name__)


class PreemptionListener(Listener):
    """Asks for a checkpoint when Ray announces that a node of the run will be reclaimed."""

    _announced = False

    def wants_checkpoint(self) -> bool:
        if self._announced or not preemption_is_near():
            return False
        self._announced = True
        _log.warning("a node of the run is about to be taken away: writing a checkpoint")
        return True


class RayReporter(PreemptionListener):
    """Reports each round to Ray Train, with its checkpoint, and sets Ray's gauges of the run."""

    _gauges: RunGauges | None = None

    def started(self, session: FolderSession) -> None:
        if is_primary():
            self._gauges = RunGauges(session.run.name)

    def progressed(self, figures: Figures) -> None:
        if self._gauges is not None:
            self._gauges.set_figures(figures)

    def reported(self, metrics: dict[str, Any], checkpoint: str | None, written: Future[None]) -> None:
        """Every rank reports, and the primary one names the checkpoint."""
        if self._gauges is not None:
            self._gauges.set_report(metrics)
        kept = checkpoint_in_run(checkpoint) if checkpoint is not None and is_primary() else None

        def when_written(kept: ray.train.Checkpoint, _: str) -> ray.train.Checkpoint:
            written.result()
            return kept

        ray.train.report(
            dotted(metrics),
            checkpoint=kept,
            checkpoint_dir_name=checkpoint,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=when_written,
            delete_local_checkpoint_after_upload=False,
        )


@dataclass(frozen=True)
class WorkerJob:
    """The job that the driver sends to each worker.

    Attributes:
        task: a reference to the pickled task.
        run: path, file system and lock token of the run folder.
        retention: which checkpoints are kept; None leaves that to the driver.
        ranks: the largest number of workers of an elastic run; None otherwise.
        waits: whether training waits for each checkpoint.
        listeners: follow the session.
        shards: the phase types whose rows are in shared memory.
        feeding: who makes the batches.
        cwd: the driver's working directory.
        search: where the driver finds the user's modules.
    """

    task: ray.ObjectRef
    run: tuple[str, Any, str | None]
    retention: Retention | None
    ranks: int | None
    waits: bool
    listeners: Sequence[Listener]
    shards: frozenset[str]
    feeding: Feeding
    cwd: str
    search: Search

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Called in the main thread of the worker, where alone signal handlers can be installed."""
        self.__dict__.update(state)
        leave_signals_to_driver()


def train_on_worker(loop_config: dict[str, WorkerJob]) -> dict[str, Any]:
    """Trains a task on this worker.

    Args:
        loop_config: `job`.

    Returns:
        `stopped`, a message, if the run was asked to stop; `evaluation`, the pickled state that a test-only task ends
        with.
    """
    job = loop_config["job"]
    task = _received(job)
    gc.enable()  # see `ray_compat.controller`
    run = RunFolder(*job.run)
    with contextlib.ExitStack() as stack:
        if is_primary():
            stack.enter_context(log_to_folder(run))
        try:
            run_loop(task, FolderSession(run, job.retention, job.ranks, job.waits, listeners=job.listeners))
        except RunStopped as stopped:
            return {"stopped": str(stopped)}  # an error would be tried again
        except Exception as error:
            mark(error, get_rank(), get_world_size(), task.num_train_steps)
            error.add_note(traceback.format_exc())  # Ray hands the exception back without its traceback
            raise
    if not task.test_only:
        return {}
    buffer = io.BytesIO()
    torch.save(task.evaluation_state(), buffer)
    return {"evaluation": buffer.getvalue()}


def _received(job: WorkerJob) -> ClassyTask:
    """The task, on the device and with the rows of this worker."""
    if os.path.isdir(job.cwd):
        os.chdir(job.cwd)  # so that a relative path has the meaning that it has for the driver
    job.search.extend()
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    task: ClassyTask = pickle.loads(ray.get(job.task))
    task.use_gpu_if_unset(device.type == "cuda")  # what Ray gave this worker, whatever else the node has
    for phase_type, dataset in task.datasets.items():
        attach(dataset, ray.train.get_dataset_shard(phase_type) if phase_type in job.shards else None)
    attach_feeds(task.datasets, job.feeding, get_world_size())
    return task
