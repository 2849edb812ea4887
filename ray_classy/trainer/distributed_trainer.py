"""Training in processes that torchrun started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ray_classy.checkpoint.content import Checkpoint
from ray_classy.distributed import barrier, broadcast_object, get_world_size, is_initialized, is_primary, local_rank
from ray_classy.errors import RayClassyError, RunFolderError
from ray_classy.tasks import ClassyTask
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.interrupts import interruptible, stop_on_signal
from ray_classy.trainer.local_trainer import LocalTrainer
from ray_classy.trainer.logs import log_to_folder, log_to_stderr
from ray_classy.trainer.result import Result
from ray_classy.trainer.run import Run, result_of
from ray_classy.trainer.run_display import show_run
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.trainer.session import FolderSession, Latest


class DistributedTrainer(LocalTrainer):
    """Trains in the processes of one `torchrun`, one rank each; the arguments are those of `LocalTrainer`.

    The environment identifies the processes: WORLD_SIZE (1), RANK (0), LOCAL_RANK (0), MASTER_ADDR (localhost),
    MASTER_PORT (29500).
    """

    def run(self, task: ClassyTask, spec: RunSpec) -> Result:
        """Trains the task to its end on all ranks; each rank's task holds the final state afterwards.

        Raises:
            RayClassyError: the task, its data or the run folder cannot be used; before anything is trained.
            FloatingPointError: the loss became infinite or not a number.
            RunStopped: Ctrl-C was pressed, and a checkpoint is written.
            RunTerminated: the same after SIGTERM or SIGHUP.
        """
        with interruptible(), _process_group(task.use_gpu is not False):
            spec.retention.check(task.reported_metrics(), spec.config)
            latest = _latest(task, spec)
            task.preflight(get_world_size(), resume=Checkpoint(*latest) if latest is not None else None)
            with _opened(task, spec) as folder:
                with contextlib.ExitStack() as stack:
                    views = [stack.enter_context(show_run(task))] if is_primary() else []
                    session = FolderSession(folder, spec.retention, latest=latest, listeners=views)
                    del latest  # the session releases it
                    for view in views:
                        stack.enter_context(log_to_stderr(displayed=view.displayed))
                        stack.enter_context(log_to_folder(folder))
                    stack.enter_context(stop_on_signal(None if task.test_only else session.ask_to_stop))
                    run_loop(task, session)
                barrier()  # the primary rank may still be writing
                return result_of(folder)


def _latest(task: ClassyTask, spec: RunSpec) -> Latest | None:
    """The newest checkpoint of the run that the primary rank resumes; each rank reads it once.

    The primary rank alone looks for the run: to a slower rank, one that is just being started may look like an old one.
    """
    answer: Any = None
    latest: Latest | None = None
    if is_primary() and spec.resume is not None and not task.test_only:
        try:
            folder = spec.check_place()
            latest = folder.checkpoints.load_latest(task.check_state)
            answer = (folder.path, latest[0]) if latest is not None else None
        except (RayClassyError, OSError) as error:  # every rank raises it
            answer = error
    answer = broadcast_object(answer)
    if isinstance(answer, Exception):
        raise answer
    if answer is None or latest is not None:
        return latest
    path, name = answer
    return name, RunFolder(path).checkpoints.load(name)


@contextlib.contextmanager
def _opened(task: ClassyTask, spec: RunSpec) -> Iterator[RunFolder]:
    """The folder of the run: the primary rank opens and locks it, the others write under its lock."""
    if not is_primary():
        answer = broadcast_object(None)
        if isinstance(answer, RayClassyError):
            raise answer
        yield RunFolder(*answer)
        return
    run = Run.of_task(task, spec)
    try:
        run.__enter__()
    except Exception as error:
        known = isinstance(error, RayClassyError)
        broadcast_object(error if known else RunFolderError(f"{type(error).__name__}: {error}"))
        raise
    broadcast_object((run.folder.path, None, run.folder.token))
    with contextlib.ExitStack() as stack:
        stack.push(run)
        yield run.folder


@contextlib.contextmanager
def _process_group(use_gpu: bool) -> Iterator[None]:
    """The process group of torchrun's processes, for the block; one that exists already is left as it is."""
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
