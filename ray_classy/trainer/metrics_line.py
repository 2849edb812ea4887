"""The line of a phase in `metrics.jsonl`."""

from __future__ import annotations

import time
from typing import Any

from ray_classy.distributed import gather_objects, get_world_size
from ray_classy.optim import ClassyOptimizer
from ray_classy.tasks import ClassyTask


def phase_line(task: ClassyTask, began: float) -> dict[str, Any]:
    """The line of the phase that has just ended; every rank calls it.

    Args:
        task: at the end of the phase.
        began: when the phase began, in seconds since the epoch of `time.time`.
    """
    speed = [entry["im_per_sec"] for entry in task.perf_log if entry["tag"] == f"{task.phase_type}_total"]
    line = {
        **position(task),
        "phase_type": task.phase_type,
        "where": task.where,
        "num_updates": task.num_updates,
        **_rates(task),
        "metrics": task.phase_metrics(),
        "seconds": round(time.time() - began, 3),
        "samples_per_second": round(speed[-1], 1) if speed else None,
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "world_size": get_world_size(),
        "device": _device_name(task),
    }
    bad_rows = sum(gather_objects(getattr(task.data_iterator, "bad_rows", 0)))
    return {**line, **({"bad_rows": bad_rows} if bad_rows else {}), **early_end(task)}


def _rates(task: ClassyTask) -> dict[str, list[float]]:
    """The entry `lr`, the learning rates of the last update of a train phase; else nothing."""
    optimizer = task.optimizer if task.train else None
    return {"lr": list(map(float, optimizer.last_lr))} if isinstance(optimizer, ClassyOptimizer) else {}


def _device_name(task: ClassyTask) -> str | None:
    """What this rank computes on, as people call it: "cpu" or the name of the GPU."""
    if task.device is None or task.device.type != "cuda":
        return None if task.device is None else str(task.device.type)
    import torch

    return torch.cuda.get_device_name(task.device)


def early_end(task: ClassyTask) -> dict[str, str]:
    """The entry `stopped_early`, why the run ends here, of a task that a hook has ended early; else nothing."""
    return {} if task.stopped_early is None else {"stopped_early": task.stopped_early}


def position(task: ClassyTask) -> dict[str, Any]:
    """How many epochs and train phases are over when the current phase ends, and the phase's number from 0."""
    train_phases = task.train_phase_idx + 1
    return {"phase_idx": task.phase_idx, "epoch": task.epochs_of(train_phases), "train_phase": train_phases}
