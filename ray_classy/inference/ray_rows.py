"""Evaluates pieces of a dataset on Ray workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ray_classy.config.places import locate_errors
from ray_classy.config.ray_options import RayOptions
from ray_classy.display import duration
from ray_classy.inference.evaluated_rows import EvaluatedRows, evaluate_rows, together
from ray_classy.inference.pace import OnProgress, ignore
from ray_classy.inference.trained import Trained, read_trained

_SECONDS_BETWEEN_LOOKS = 10.0


def evaluated_on_ray(
    trained: Trained,
    config: Mapping[str, Any],
    batch_size: int,
    flip: bool,
    num_workers: int,
    on_progress: OnProgress = ignore,
) -> dict[str, EvaluatedRows]:
    """Evaluates each row of a dataset once, on so many workers; arguments and errors as those of `evaluate`.

    Each worker reads the checkpoint and its piece of the rows itself. The piece of a worker that dies is evaluated by
    another one.
    """
    import ray

    from ray_classy.ray_compat.train import resources_per_worker
    from ray_classy.trainer.ray_cluster import check_resources
    from ray_classy.trainer.ray_config import RaySettings

    section = RayOptions.of({**(config.get("ray") or {}), "num_workers": num_workers})
    with locate_errors(config, "ray"):
        settings = RaySettings.of(section)
    each = resources_per_worker(settings.scaling)
    on_progress(f"starting {num_workers} Ray workers")
    with settings.connected():
        check_resources(settings.scaling, settings.wait_for_resources_s)
        resources = {name: amount for name, amount in each.items() if name not in ("CPU", "GPU")}
        piece = ray.remote(_piece).options(
            num_cpus=each.get("CPU", 0), num_gpus=each.get("GPU", 0), resources=resources or None, max_retries=3
        )
        asked = [
            piece.remote(trained.path, dict(config), batch_size, flip, rank, num_workers) for rank in range(num_workers)
        ]
        began, left = time.monotonic(), asked
        while left:
            done, left = ray.wait(left, timeout=_SECONDS_BETWEEN_LOOKS)
            ray.get(done)  # or it raises the error of one that has failed
            if not done:
                on_progress(
                    f"{len(left)} of {num_workers} workers evaluate: {duration(time.monotonic() - began)} so far"
                )
        return together(ray.get(asked))


def _piece(
    path: str, config: dict[str, Any], batch_size: int, flip: bool, rank: int, world_size: int
) -> dict[str, EvaluatedRows]:
    from ray_classy.inference.evaluation import classifier_with, dataset_for

    model = classifier_with(read_trained(path), flip)
    return evaluate_rows(model, dataset_for(config, model), batch_size, rank, world_size)
