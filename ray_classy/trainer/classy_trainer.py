"""The training loop, the same wherever it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray_classy.distributed import barrier, get_rank
from ray_classy.seeding import derive_seed, seed_all
from ray_classy.tasks import ClassyTask, check_task
from ray_classy.trainer.session import Session


class ClassyTrainer:
    """Drives a task through its phases:

        prepare, on_start
        until done_training:
            on_phase_start
            step, until it raises StopIteration
            on_phase_end
        on_end

    Before each phase and each step all generators are seeded from (seed, phase, step, rank), so that a run that was
    interrupted draws what it would have drawn.
    """

    def train(self, task: ClassyTask) -> object:
        """Trains a prepared or unprepared task to its end in this process."""
        run_loop(task, Session())
        return None


def run_loop(task: ClassyTask, session: Session) -> None:
    """Drives `task` to its end; `session` gives it its earlier state and takes its results.

    Raises:
        TaskError: `task` is no ClassyTask.
    """
    for _ in rounds(task, session):
        pass


def rounds(task: ClassyTask, session: Session) -> Iterator[dict[str, Any]]:
    """The same loop, which stops after each round (a train phase and the test phase after it) and gives its report.

    Raises:
        TaskError: `task` is no ClassyTask.
    """
    check_task(task)
    try:
        yield from _rounds(task, session)
    finally:
        session.close()


def _rounds(task: ClassyTask, session: Session) -> Iterator[dict[str, Any]]:
    task.prepare_from(session.start(task))
    barrier()
    task.on_start()
    phase = task.phase_idx
    while not task.done_training():
        phase += 1
        seed_all(derive_seed(task.seed, phase, get_rank()))
        task.on_phase_start()
        step = task.steps_in_phase
        while True:
            seed_all(derive_seed(task.seed, phase, step, get_rank()))
            try:
                task.step()
            except StopIteration:
                break
            step += 1
            if task.train:
                session.step_ended(task)
        task.on_phase_end()
        report = session.phase_ended(task)
        if report is not None:
            yield report
    task.on_end()
