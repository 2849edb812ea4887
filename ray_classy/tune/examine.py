"""Checks of a sweep before its first trial: every kind of value it may draw is tried in a dry run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.row_dataset import data_files, streamed
from ray_classy.errors import ConfigError, RayClassyError
from ray_classy.hooks import CheckpointHook
from ray_classy.tasks import ClassyTask
from ray_classy.tasks.build import draft_task
from ray_classy.tasks.task_config import checked
from ray_classy.tune.space import Node, Space

if TYPE_CHECKING:
    from ray_classy.models.pretrained import PretrainedWeights

_LENGTH = ("num_epochs", "test_phase_period", "dataset.train.phases_per_epoch")
"""Values that decide when a trial ends and reports. Copies of a trial must have its length, at any value."""


class Examined(NamedTuple):
    """Results of the dry runs of a sweep's values.

    Attributes:
        metrics: the names of metrics that every trial reports; empty if they are not known beforehand.
        epochs: the length of a trial; of the longest if they differ.
        mutable: the nodes whose values do not change the structure of a trial's state.
        sparse: whether a trial completes epochs without a checkpoint.
        weights: the pretrained weights that models of trials start from.
        files: some of the data files, to check whether other nodes can read them.
        streamed: the phase types whose rows come from a pipeline that runs beside the training.
    """

    metrics: list[str]
    epochs: int | float
    mutable: list[Node]
    sparse: bool
    weights: list[PretrainedWeights]
    files: list[str]
    streamed: list[str]


def examine(space: Space, world_size: int, on_gpu: bool | None) -> Examined:
    """Builds a task for every value of every choice and both ends of every range, and runs it on a few rows.

    Args:
        space: the search space.
        world_size: the number of workers of a trial.
        on_gpu: whether workers have GPUs; None if each worker finds out.

    Raises:
        ConfigError: some values are invalid; the message lists them with file and line.
    """
    problems: dict[str, None] = {}
    tasks: list[tuple[dict[str, Any], ClassyTask]] = []
    first: dict[str, Any] | None = None
    datasets: dict[str, ClassyDataset] = {}
    for params in space.variants():
        first = first or params
        try:
            config = checked(space.trial_config(params))
            tasks.append((params, draft_task(config, world_size, on_gpu, datasets)[0]))
        except ConfigError as error:
            problems.update(dict.fromkeys(str(error).splitlines()))
        except RayClassyError as error:
            active = space.active(params)
            other = ", ".join(f"{n} {v}" for n, v in active.items() if v != first.get(n)) or "the first values"
            problems[f"with {other}: {error}"] = None
    if problems:
        raise ConfigError("\n".join(problems))
    names = [task.reported_metrics() for _, task in tasks]
    common = [name for name in names[0] if all(name in others for others in names)]
    return Examined(
        common,
        max(_epochs(task) for _, task in tasks),
        _mutable(space, tasks),
        any(_is_sparse(task) for _, task in tasks),
        _starting_weights(task for _, task in tasks),
        data_files(tasks[0][1].datasets.values()),
        sorted({phase_type for _, task in tasks for phase_type in streamed(task.datasets)}),
    )


def _starting_weights(tasks: Iterable[ClassyTask]) -> list[PretrainedWeights]:
    models = [task.base_model for task in tasks]
    named = [model.starting_weights for model in models if getattr(model, "starting_weights", None) is not None]
    return list(dict.fromkeys(named))


def _is_sparse(task: ClassyTask) -> bool:
    return any(isinstance(hook, CheckpointHook) and hook.checkpoint_period > 1 for hook in task.hooks)


def _epochs(task: ClassyTask) -> int | float:
    """Returns the length of a trial; it is rounded up to whole train phases."""
    phases = task.planned_phases()
    return task.epochs_of(sum(phase["train"] or task.test_only for phase in phases)) if phases else task.num_epochs


def _mutable(space: Space, tasks: list[tuple[dict[str, Any], ClassyTask]]) -> list[Node]:
    """Returns the nodes whose values do not change the structure of the state, nor the length of the trial."""
    first, task = tasks[0]
    structure = task.checkpoint_structure()
    fixed = {"seed", *_LENGTH}
    for params, other in tasks[1:]:
        if other.checkpoint_structure() != structure:
            fixed |= {name for name, value in params.items() if value != first[name]}
    return [
        node
        for node in space.nodes
        if node.name not in fixed and not node.within and not node.grid and not node.domain.is_function()
    ]
