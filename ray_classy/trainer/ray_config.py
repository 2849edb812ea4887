"""The `ray` section of a config: the fields of Ray Train's own config classes, in one flat mapping."""

from __future__ import annotations

import functools
import operator
import typing
from collections.abc import Mapping
from typing import Any, Literal

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig

from ray_classy.errors import ComponentError
from ray_classy.ray_compat.train import config_fields, resources_per_worker
from ray_classy.registry import Key, Keys
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH

# Fields that hold objects, which a config file cannot give; RayTrainer takes Ray's own config objects for these.
_OBJECTS = {
    "callbacks",
    "checkpoint_config",
    "failure_config",
    "logging_config",
    "storage_filesystem",
    "worker_runtime_env",
}
_SEARCH = typing.Dict[str, typing.List]  # noqa: UP006  # as Ray writes it
_CLASSES = (ScalingConfig, RunConfig, FailureConfig, CheckpointConfig, TorchConfig)


def _fields(cls: type) -> Keys:
    keys: Keys = {}
    for name, parameter in config_fields(cls).items():
        if name not in _OBJECTS:
            keys[name] = Key(_as_written(parameter.annotation) | None, parameter.default)
    return keys


def _as_written(annotation: Any) -> Any:
    """The annotation of a field without the alternatives that a config file cannot give (Tune's search domains)."""
    members = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Union else (annotation,)
    kept = [m for m in members if not isinstance(m, typing.ForwardRef) and m != dict[str, list] and m != _SEARCH]
    return functools.reduce(operator.or_, kept)


def ray_keys() -> Keys:
    """The keys of the `ray` section, and what they may hold."""
    keys: Keys = {"address": Key(str | None, None)}
    for cls in _CLASSES:
        keys.update(_fields(cls))
    # Ray's annotation leaves open what the mapping holds.
    keys["resources_per_worker"] = Key(dict[str, float] | None, None)
    # Of ray.train.report; NO_UPLOAD makes no sense where a checkpoint is written to its place at once.
    keys["checkpoint_upload_mode"] = Key(Literal["ASYNC", "SYNC"] | None, None)
    return keys


def ray_configs(section: Mapping[str, Any]) -> dict[str, Any]:
    """Ray's config objects from a `ray` section: `scaling_config`, `run_config` and `torch_config`.

    Args:
        section: the keys of `ray_keys`, `address` aside.
    """
    given = {key: value for key, value in section.items() if value is not None}
    if isinstance(given.get("num_workers"), list):
        given["num_workers"] = tuple(given["num_workers"])

    def build(cls: type, **more: Any) -> Any:
        return cls(**{name: given[name] for name in _fields(cls) if name in given}, **more)

    given.setdefault("storage_path", DEFAULT_STORAGE_PATH)
    run_config = build(RunConfig, failure_config=build(FailureConfig), checkpoint_config=build(CheckpointConfig))
    return {
        "scaling_config": build(ScalingConfig),
        "run_config": run_config,
        "torch_config": build(TorchConfig),
    }


def check_gpu_shares(scaling: ScalingConfig, torch_config: TorchConfig) -> None:
    """Refuses several workers on one GPU where they would talk to each other by NCCL, which cannot do it.

    Raises:
        ComponentError: each of several workers gets a part of a GPU, and the backend is not gloo.
    """
    share = resources_per_worker(scaling).get("GPU", 0)
    workers = scaling.num_workers
    most = workers[-1] if isinstance(workers, tuple) else workers
    if most > 1 and 0 < share < 1 and torch_config.backend != "gloo":
        raise ComponentError(
            f"each of {most} workers gets {share:g} GPU, but NCCL cannot connect workers that share a GPU: give each a "
            f"whole one, or let them talk by another backend (ray.backend: gloo)"
        )
