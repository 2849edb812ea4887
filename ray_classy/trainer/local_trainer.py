"""Training in this process, without Ray."""

from __future__ import annotations

import contextlib

from ray_classy.checkpoint.content import Checkpoint
from ray_classy.distributed import check_single_process
from ray_classy.tasks import ClassyTask
from ray_classy.trainer.classy_trainer import ClassyTrainer, run_loop
from ray_classy.trainer.interrupts import interruptible, stop_on_signal
from ray_classy.trainer.logs import log_to_folder, log_to_stderr
from ray_classy.trainer.result import Result
from ray_classy.trainer.run import Run
from ray_classy.trainer.run_display import show_run
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.trainer.session import FolderSession, Latest


class LocalTrainer(ClassyTrainer):
    """Trains in this process, on its GPU if it has one.

    Args:
        storage_path: the folder of runs; None is `runs` in the working directory.
        name: the run's name; None makes one from the time.
        resume: the folder of an earlier run to resume, in place of the other two.
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
            RunTerminated: the same after SIGTERM or SIGHUP.
        """
        place = {"storage_path": self.storage_path, "name": self.name, "resume": self.resume}
        return self.run(task, RunSpec.of_task(task, **place))

    def run(self, task: ClassyTask, spec: RunSpec) -> Result:
        """Trains the task as a spec describes it; what `train` does with the trainer's own arguments."""
        check_single_process(type(self).__name__)
        with show_run(task) as view:
            view.working("checking the data, the model and the checkpoint")
            latest = check_start(task, spec)
            with contextlib.ExitStack() as stack:
                stack.enter_context(interruptible())
                run = stack.enter_context(Run.of_task(task, spec))
                stack.enter_context(log_to_stderr(displayed=view.displayed))
                stack.enter_context(log_to_folder(run.folder))
                session = FolderSession(run.folder, spec.retention, latest=latest, listeners=[view])
                del latest  # the session releases it
                with stop_on_signal(None if task.test_only else session.ask_to_stop):
                    run_loop(task, session)
                return run.result()


def check_start(task: ClassyTask, spec: RunSpec) -> Latest | None:
    """Checks everything that can be checked before a run opens its folder or takes resources.

    Args:
        task: its parts are tried, and the state that it would resume from.
        spec: of the run.

    Returns:
        The newest checkpoint of the run that is resumed, if it has one.

    Raises:
        RayClassyError: the message says what cannot be used.
    """
    spec.retention.check(task.reported_metrics(), spec.config)
    folder = spec.check_place()
    latest = (
        folder.checkpoints.load_latest(task.check_state) if spec.resume is not None and not task.test_only else None
    )
    resume = Checkpoint(folder.storage.join(latest[0]), latest[1]) if latest is not None else None
    task.preflight(spec.world_size, spec.on_gpu, resume)
    return latest
