"""What each Ray Train worker runs."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import sys
import traceback
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from ray_classy.distributed import get_rank, get_world_size, is_primary
from ray_classy.errors import RunStopped
from ray_classy.ingest.ray_ingest import attach
from ray_classy.ray_compat.train import checkpoint_in_run, preemption_is_near
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.logs import logged_to
from ray_classy.trainer.metrics import dotted
from ray_classy.trainer.ray_failures import mark
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import CHECKPOINT, FolderSession

_log = logging.getLogger(__name__)


class RaySession(FolderSession):
    """A run on Ray Train workers: each round is also reported to Ray, with its checkpoint."""

    _preempted = False

    def _asked(self) -> int:
        """What the primary rank wants; a checkpoint in time, if a node is about to be taken away."""
        answer = super()._asked()
        if answer or self._preempted or not preemption_is_near():
            return answer
        self._preempted = True
        _log.warning("a node of the run is about to be taken away: writing a checkpoint")
        return CHECKPOINT

    def report(self, metrics: dict[str, Any], checkpoint: str | None) -> None:
        """Reports a round to Ray; every rank calls this, and the primary one names the checkpoint."""
        kept = None
        if checkpoint is not None and is_primary():
            kept = checkpoint_in_run(checkpoint)  # it is written to the run folder, which is where Ray would put it
        written = self._writer.last()

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


def train_on_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Trains a task on this worker.

    Args:
        job: `task` (a reference to the pickled task), `run` (path, file system and lease token of the run folder),
            `session` (the class of the run's session), `retention`, `ranks` and `waits` (its arguments), `shards` (the
            phase types whose rows Ray Data has), `cwd` and `path` (of the driver).

    Returns:
        `stopped`, a message, if the run was asked to stop; `evaluation`, the state of a task that only evaluated.
    """
    if os.path.isdir(job["cwd"]):
        os.chdir(job["cwd"])  # so that a relative path means what it means to the driver
    sys.path.extend(folder for folder in job["path"] if folder not in sys.path)
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    task = pickle.loads(ray.get(job["task"]))
    task.use_gpu_if_unset(device.type == "cuda")  # what Ray gave this worker, whatever else the node has
    for phase_type, dataset in task.datasets.items():
        attach(dataset, ray.train.get_dataset_shard(phase_type) if phase_type in job["shards"] else None)
    run = RunFolder(*job["run"])
    with contextlib.ExitStack() as stack:
        if is_primary():
            stack.enter_context(logged_to(run))
        try:
            run_loop(task, job["session"](run, job["retention"], job["ranks"], job["waits"]))
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
