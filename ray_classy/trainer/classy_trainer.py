"""The training loop, the same in one process, under torchrun, on Ray workers and in a trial of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray_classy.deferred_compiler import defer_compiler
from ray_classy.distributed import barrier, get_rank, get_world_size
from ray_classy.errors import ResourceError
from ray_classy.garbage import no_collection
from ray_classy.memory import out_of_memory
from ray_classy.seeding import derive_seed, mix_parts, seed_all, seed_torch, set_rng_state
from ray_classy.tasks import ClassyTask, check_task
from ray_classy.trainer.session import Session


class ClassyTrainer:
    """Drives a task through its phases:

        state = session.start()             # the checkpoint to resume from, if there is one
        task.prepare_from(state)
        task.on_start()
        until task.done_training():
            task.on_phase_start()
            session.phase_started()
            until task.step() raises StopIteration:
                session.step_ended()        # progress; a checkpoint inside a train phase, if one is due
            task.on_phase_end()
            session.phase_ended()           # metrics, the due checkpoint, a report
        task.on_end()

    Torch's generators are seeded before each phase and each step from (seed, phase, step, rank), so that a resumed run
    draws the numbers that an uninterrupted one draws. Those of Python and NumPy, whose seeding takes longer, are seeded
    before each phase and its first step; a run that resumes inside a phase restores them from the checkpoint, or on
    another number of ranks seeds them for the step at which it resumes.
    """

    def train(self, task: ClassyTask) -> object:
        """Trains a task to its end in this process, without a run folder."""
        run_loop(task, Session())
        return None


def run_loop(task: ClassyTask, session: Session) -> None:
    """Drives a task to its end.

    Args:
        task: prepared or not.
        session: gives the loop the state to resume from, and takes its results.

    Raises:
        TaskError: `task` is not a ClassyTask.
    """
    for _ in rounds(task, session):
        pass


def rounds(task: ClassyTask, session: Session) -> Iterator[dict[str, Any]]:
    """The same loop, which pauses after each round (a train phase and the test phase after it) and yields its report.

    Raises:
        TaskError: `task` is not a ClassyTask.
    """
    check_task(task)
    try:
        yield from _rounds(task, session)
    except BaseException as error:
        session.close(error)
        raise
    session.close()


def _rounds(task: ClassyTask, session: Session) -> Iterator[dict[str, Any]]:
    defer_compiler()
    with no_collection():  # some modules are imported when they are needed first
        task.prepare_from(session.start(task))
    barrier()
    task.on_start()
    while not task.done_training():
        phase = task.phase_idx + 1
        seed_all(derive_seed(task.seed, phase, get_rank()))
        task.on_phase_start()
        if task.phase_idx != phase:  # the task does not count
            task.phase_idx, task.train_phase_idx = phase, task.train_phase_idx + task.train
        session.phase_started(task)
        step, mixed, rank = task.steps_in_phase, mix_parts(task.seed, phase), get_rank()
        _seed_phase(task)
        while True:
            seed_torch(derive_seed(step, rank, after=mixed))
            train_steps = task.num_train_steps
            try:
                task.step()
            except StopIteration:
                break
            except (RuntimeError, MemoryError) as error:
                lacking = _of_memory(error, task, step)
                if lacking is None:
                    raise
                raise lacking from error
            step += 1
            if task.train and task.num_train_steps == train_steps:
                task.num_train_steps += 1
            session.step_ended(task)
        task.on_phase_end()
        report = session.phase_ended(task)
        if report is not None:
            yield report
    task.on_end()


def _seed_phase(task: ClassyTask) -> None:
    """Seeds the generators for the steps of the phase that has just been started, or restores them."""
    step, states, task.generators = task.steps_in_phase, task.generators, None
    seed_all(derive_seed(task.seed, task.phase_idx, step, get_rank()))
    if step and states is not None and len(states) == get_world_size():
        set_rng_state(states[get_rank()])


def _of_memory(error: Exception, task: ClassyTask, step: int) -> ResourceError | None:
    """The error to raise if memory ran out in a step."""
    phase_type = "train" if task.train else "test"
    rows = getattr(task.datasets.get(phase_type), "batchsize_per_replica", None)
    key = f"dataset.{phase_type}.batchsize_per_replica"
    remedy = f"lower {key}" + (f", which is {rows}" if rows is not None else "")
    other = task.memory_remedy()
    if other is not None:
        remedy += f"; or {other}"
    return out_of_memory(error, f"step {step + 1} of a {phase_type} phase", remedy)
