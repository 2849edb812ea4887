"""Builds a task from its config, and refuses what is not a task."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.dataset import ClassyDataset
from ray_classy.deferred_compiler import defer_compiler
from ray_classy.errors import TaskError
from ray_classy.garbage import no_collection
from ray_classy.memory import within_memory
from ray_classy.tasks.classy_task import TASK_REGISTRY, ClassyTask
from ray_classy.tasks.draft import Draft
from ray_classy.tasks.task_config import checked

if TYPE_CHECKING:
    from ray_classy.tasks.dry_run import DryRun


def build_task(config: Mapping[str, Any]) -> ClassyTask:
    """Builds a task from its config; `name` chooses the class that `register_task` knows under it.

    The config is checked first, as a whole; it is never written to. Modules named under `imports` are imported.

    Raises:
        ConfigError: the config has mistakes, an unknown name among them; the message lists them all.
    """
    return build_checked_task(checked(config))


def build_checked_task(config: Mapping[str, Any], draft: Draft | None = None) -> ClassyTask:
    """Builds a task from a config that `checked` has accepted already.

    Args:
        config: a task's config.
        draft: how parts are built for a task that is not trained; a task whose `from_config` does not take it is built
            as for training.
    """
    defer_compiler()
    build = TASK_REGISTRY.named_class(config).from_config
    takes_draft = draft is not None and "draft" in inspect.signature(build).parameters
    with within_memory(), no_collection():
        task = build(_copied(config), **({"draft": draft} if takes_draft else {}))
    if task.built_from is None:
        task.config = _copied(config)
    return task


def draft_task(
    config: Mapping[str, Any], world_size: int, on_gpu: bool | None, datasets: dict[str, ClassyDataset] | None = None
) -> tuple[ClassyTask, dict[str, DryRun]]:
    """Builds a task from a checked config and tries its parts, without memory for its weights where that is possible.

    Args:
        config: a task's config.
        world_size, on_gpu: as for `ClassyTask.preflight`.
        datasets: of earlier drafts.

    Returns:
        The task, and what `preflight` returned.

    Raises:
        RayClassyError: a part cannot be built, or the parts do not fit together.
    """
    datasets = {} if datasets is None else datasets
    with no_collection():  # many modules are imported when they are needed first
        try:
            task = build_checked_task(config, Draft("meta", datasets))
            return task, task.preflight(world_size, on_gpu)
        except Exception:
            # Some models exist with real weights only. If the mistake is the user's, this raises it again.
            task = build_checked_task(config, Draft(None, datasets))
            return task, task.preflight(world_size, on_gpu)


def check_task(task: Any) -> None:
    """Refuses what is not a task.

    Raises:
        TaskError: `task` is not a `ClassyTask`.
    """
    if not isinstance(task, ClassyTask):
        raise TaskError(f"a trainer trains a ClassyTask, not {type(task).__name__}; build one with build_task")


def _copied(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a deep copy; that of a `Config` keeps its files and lines."""
    return copy.deepcopy(config if isinstance(config, dict) else dict(config))
