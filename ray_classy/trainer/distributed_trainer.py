"""Training in processes that torchrun started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from ray_classy.distributed import barrier, get_world_size, is_initialized, is_primary, local_rank
from ray_classy.tasks import ClassyTask, check_task
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.local_trainer import LocalTrainer, agree_on_run, result_of, retention_of
from ray_classy.trainer.logs import logged_to, shown
from ray_classy.trainer.result import Result
from ray_classy.trainer.session import FolderSession


class DistributedTrainer(LocalTrainer):
    """Trains in the processes of one `torchrun`, one rank each; the arguments are those of `LocalTrainer`.

    The environment says who is who: WORLD_SIZE (1), RANK (0), LOCAL_RANK (0), MASTER_ADDR (localhost), MASTER_PORT
    (29500).
    """

    def train(self, task: ClassyTask) -> Result:
        """Trains the task to its end on all ranks; each rank's task holds the final state afterwards.

        Raises:
            RayClassyError: the task, its data or the run folder cannot be used; before anything is trained.
            FloatingPointError: the loss became infinite or not a number.
        """
        check_task(task)
        with _process_group(task.use_gpu is not False):
            retention = retention_of(task)
            task.preflight(get_world_size())
            with agree_on_run(self.storage_path, self.name, self.resume, task) as run:
                with contextlib.ExitStack() as stack:
                    if is_primary():
                        stack.enter_context(shown())
                        stack.enter_context(logged_to(run))
                    run_loop(task, FolderSession(run, retention))
                barrier()  # the primary rank may still be writing
                return result_of(run)


@contextlib.contextmanager
def _process_group(use_gpu: bool) -> Iterator[None]:
    """The group of torchrun's processes, for the block; one that exists already is left as it is."""
    if is_initialized():
        yield
        return
    for name, default in (("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29500")):
        os.environ.setdefault(name, default)
    on_gpu = use_gpu and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank())
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        world_size=int(os.environ.get("WORLD_SIZE", 1)),
        rank=int(os.environ.get("RANK", 0)),
        timeout=timedelta(minutes=30),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
