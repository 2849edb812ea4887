"""Training in this process, without Ray."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ray_classy.config import dump_yaml, resolve
from ray_classy.distributed import broadcast_object, is_primary
from ray_classy.errors import RayClassyError, RunFolderError, RunStopped
from ray_classy.tasks import TASK_REGISTRY, ClassyTask, check_task
from ray_classy.tasks.task_config import RESERVED
from ray_classy.trainer.classy_trainer import ClassyTrainer, run_loop
from ray_classy.trainer.interrupts import stopping_gently
from ray_classy.trainer.logs import logged_to, shown
from ray_classy.trainer.metrics import latest_by_phase_type
from ray_classy.trainer.result import Result
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession


class LocalTrainer(ClassyTrainer):
    """Trains in this process, on its GPU if it has one.

    Args:
        storage_path: the folder of runs; None is `runs` in the working directory.
        name: the run's name; None makes one from the time.
        resume: the folder of an earlier run to go on with, in place of the other two.
    """

    def __init__(self, storage_path: str | None = None, name: str | None = None, resume: str | None = None) -> None:
        self.storage_path = storage_path
        self.name = name
        self.resume = resume

    def train(self, task: ClassyTask) -> Result:
        """Trains the task to its end; it holds the final state afterwards.

        Raises:
            RayClassyError: the task, its data or the run folder cannot be used; before anything is trained.
            FloatingPointError: the loss became infinite or not a number.
            RunStopped: Ctrl-C was pressed, and a checkpoint is written. (At the second Ctrl-C, KeyboardInterrupt.)
        """
        check_task(task)
        retention = retention_of(task)
        task.preflight()
        with opened_run(self.storage_path, self.name, self.resume, task) as run:
            with shown(), logged_to(run), stopping_gently(None if task.test_only else run.request_stop):
                run_loop(task, FolderSession(run, retention))
            return result_of(run)


@contextlib.contextmanager
def opened_run(
    storage_path: str | None, name: str | None, resume: str | None, task: ClassyTask, filesystem: Any = None
) -> Iterator[RunFolder]:
    """The folder of a run, held for the block; how the block ended is written down in it."""
    run = RunFolder.resume(resume, filesystem) if resume else RunFolder.create(storage_path, name, filesystem)
    try:
        # Modules that the config imports are looked for beside the file it came from, also when the run is resumed.
        file = getattr(task.built_from, "file", None)
        facts: dict[str, Any] = {"config_file": os.path.abspath(file)} if file else {}
        given = getattr(task.built_from, "given", None)
        if given is not None:
            facts["given"] = given or None
        try:
            run.describe(config_text(task), seed=task.seed, task=type(task).__name__, **facts)
            yield run
        except BaseException as error:
            with contextlib.suppress(OSError):  # a folder that cannot be written must not hide what happened
                if isinstance(error, KeyboardInterrupt | RunStopped):
                    run.finish("interrupted")
                else:
                    run.finish("failed", error=f"{type(error).__name__}: {error}")
            if not resume:
                run.remove_if_unused()
            raise
        run.finish("finished")
    finally:
        run.release()


def retention_of(task: ClassyTask) -> Retention:
    """What the `ray` section of a task's config says of checkpoints that are kept.

    Raises:
        ConfigError: by a metric that the task does not report.
    """
    retention = Retention.of((task.built_from or {}).get("ray"))
    retention.check(task)
    return retention


def check_place(storage_path: str | None, name: str | None, resume: str | None, filesystem: Any = None) -> None:
    """Refuses what `opened_run` would refuse, before anything is started.

    Raises:
        RunFolderError: the name is taken, or there is no such run.
    """
    if resume:
        RunFolder.existing(resume, filesystem)
    else:
        RunFolder.planned(storage_path, name, filesystem)


def config_text(task: ClassyTask) -> str | None:
    """The resolved config of a task that was built from one, and has no other parts since."""
    if task.config is None:
        return None
    return dump_yaml(resolve(task.config, TASK_REGISTRY, sections=RESERVED))


def result_of(run: RunFolder) -> Result:
    """What a finished run left in its folder."""
    lines = run.metrics()
    return Result(latest_by_phase_type(lines), lines, run.latest_checkpoint(), run.path, run.best_checkpoint())


def agree_on_run(
    storage_path: str | None, name: str | None, resume: str | None, task: ClassyTask
) -> contextlib.AbstractContextManager[RunFolder]:
    """`opened_run` on the primary rank, and the same folder without its lease on the others."""

    @contextlib.contextmanager
    def agreed() -> Iterator[RunFolder]:
        if not is_primary():
            answer = broadcast_object(None)
            if isinstance(answer, RayClassyError):
                raise answer
            yield RunFolder(*answer)
            return
        opening = opened_run(storage_path, name, resume, task)
        try:
            run = opening.__enter__()
        except Exception as error:
            known = isinstance(error, RayClassyError)
            broadcast_object(error if known else RunFolderError(f"{type(error).__name__}: {error}"))
            raise
        broadcast_object((run.path, None, run.token))
        with contextlib.ExitStack() as stack:
            stack.push(opening.__exit__)
            yield run

    return agreed()
