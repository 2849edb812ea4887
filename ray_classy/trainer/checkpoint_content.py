"""What a run writes into a checkpoint and its manifest."""

from __future__ import annotations

import json
import time
from typing import Any

import torch

from ray_classy import __version__
from ray_classy.checkpoint.manifest import FORMAT
from ray_classy.dataset.known_classes import class_names
from ray_classy.distributed import get_world_size
from ray_classy.redact import redacted_values
from ray_classy.tasks import ClassyTask
from ray_classy.tasks.classes import recorded_classes
from ray_classy.tasks.splits import recorded_split
from ray_classy.trainer.run_metrics import latest_by_phase_type


def name_inside(task: ClassyTask) -> str:
    """Names a checkpoint that is written now, inside a train phase: by the finished train phases and the step."""
    return f"epoch_{task.train_phase_idx:04d}-step_{task.num_train_steps:06d}"


def name_at_end(task: ClassyTask) -> str:
    """Names a checkpoint that is written at the end of the current train phase."""
    return f"epoch_{task.train_phase_idx + 1:04d}-step_{task.num_train_steps:06d}"


def checkpoint_facts(task: ClassyTask, in_phase: dict[str, Any] | None, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of the manifest of a checkpoint.

    Args:
        task: in its current state.
        in_phase: the state of the phase, if it is not over.
        lines: of the phases of the round that has ended.
    """
    rows = None if in_phase is None else {"rows": in_phase["rows"], "of": in_phase["order"]["num_rows"]}
    return {
        "epoch": task.epochs_of(task.train_phase_idx + (in_phase is None)),
        "train_phase": task.train_phase_idx + (in_phase is None),
        "step": task.num_train_steps,
        "samples": task.num_updates,
        "where": task.where,
        "in_phase": rows,
        "metrics": latest_by_phase_type(lines),
        "seed": task.seed,
        "world_size": get_world_size(),
        "classes": next(filter(None, map(class_names, task.datasets.values())), None),
        "versions": {"ray_classy": __version__, "torch": torch.__version__},
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def checkpoint_content(task: ClassyTask, generators: list[dict[str, Any]], state: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint of the task in its current state.

    Args:
        task: gave `state`.
        generators: the random states of all ranks.
        state: of the task, gathered from all ranks.
    """
    return {
        "input_args": None,
        "classy_state_dict": state,
        "ray_classy": {
            "format": FORMAT,
            "rng": generators,
            **recorded_classes(task.datasets),
            "split": recorded_split(task.datasets),
            "seed": task.seed,
            "world_size": get_world_size(),
            "train_phases": sum(phase["train"] for phase in task.phases),
            "config": _plain_config(task),
            "counters": task.counters(),
        },
    }


def _plain_config(task: Any) -> dict[str, Any] | None:
    """Returns the task's config without secrets; None if it has none, or holds objects that a checkpoint cannot."""
    try:
        return json.loads(json.dumps(redacted_values(task.config)))
    except (TypeError, ValueError):
        return None
