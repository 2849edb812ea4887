"""Ray Train's config objects for a run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig

from ray_classy.config.ray_options import RayOptions, resource_problems
from ray_classy.errors import ComponentError
from ray_classy.ray_compat.train import config_fields, resources_per_worker
from ray_classy.trainer.ray_connection import connected
from ray_classy.trainer.ray_outline import OUR_OWN, RayOutline, own_options
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH


@dataclass(frozen=True)
class RaySettings(RayOutline):
    """Settings of a run on a Ray cluster; Ray's config objects are built once, here.

    Attributes:
        scaling: how many workers, and what each gets.
        run_config: Ray's, with its failure and checkpoint configs.
        torch_config: Ray's settings of the process group.
    """

    scaling: ScalingConfig
    run_config: RunConfig
    torch_config: TorchConfig

    @classmethod
    def of(
        cls,
        section: RayOptions,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        torch_config: TorchConfig | None = None,
        **options: Any,
    ) -> RaySettings:
        """The settings that a `ray` section describes, less what is given in its place.

        Args:
            section: of the config.
            scaling_config, run_config, torch_config: Ray's objects, in place of those that the section describes.
            options: the other attributes; one that is None is taken from the section, or has its default.

        Raises:
            ComponentError: Ray refuses an option, or the options do not go together.
        """
        _check_known(section)
        settings = cls(
            scaling_config or _built(ScalingConfig, section),
            run_config or _run_config(section),
            torch_config or _built(TorchConfig, section),
            **own_options(section, **options),
        )
        settings.check()
        for problem in resource_problems(settings.scaling.resources_per_worker, ()):
            raise ComponentError(f"resources_per_worker: {problem.message}")
        check_gpu_shares(settings.scaling, settings.torch_config)
        return settings

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """A connection to the cluster of these settings for a block."""
        return connected(
            self.address,
            self.verbose,
            runtime_env=self.runtime_env,
            object_store_memory=self.object_store_memory,
        )

    @property
    def num_workers(self) -> int | tuple[int, int]:
        """The number of workers; of an elastic run, the least and the most."""
        return self.scaling.num_workers

    @property
    def use_gpu(self) -> bool:
        """Whether the workers have GPUs."""
        return bool(self.scaling.use_gpu)

    @property
    def worker_resources(self) -> dict[str, float]:
        """What each worker reserves."""
        return resources_per_worker(self.scaling)

    @property
    def max_failures(self) -> int:
        """Failures after which the run is tried again; -1 is no limit."""
        return self.run_config.failure_config.max_failures if self.run_config.failure_config else 0


def _run_config(section: RayOptions) -> RunConfig:
    return _built(
        RunConfig,
        section,
        storage_path=section.storage_path or DEFAULT_STORAGE_PATH,
        failure_config=_built(FailureConfig, section),
        checkpoint_config=_built(CheckpointConfig, section),
    )


CLASSES = (ScalingConfig, RunConfig, FailureConfig, CheckpointConfig, TorchConfig)
OBJECTS = {
    "callbacks",
    "checkpoint_config",
    "failure_config",
    "logging_config",
    "storage_filesystem",
    "worker_runtime_env",
}
"""Options that are objects, which a config file cannot give; `RayTrainer` takes them in Ray's own config objects."""


def _check_known(section: RayOptions) -> None:
    """Refuses an option that the installed Ray does not have."""
    known = {*OUR_OWN.values()}.union(*map(config_fields, CLASSES))
    unknown = sorted(section.given().keys() - known)
    if unknown:
        raise ComponentError(
            f"Ray {ray.__version__} has no option {unknown[0]!r}: leave it out, or install a newer Ray"
        )


def _built(cls: type, section: RayOptions, **more: Any) -> Any:
    """One of Ray's config objects, from the options of the section that are its fields."""
    options = {name: value for name, value in section.given().items() if name in config_fields(cls)}
    try:
        return cls(**{**options, **more})
    except Exception as error:
        raise ComponentError(f"Ray refuses the {cls.__name__}: {error}") from error


def check_gpu_shares(scaling: ScalingConfig, torch_config: TorchConfig) -> None:
    """Refuses several workers on one GPU that would communicate over NCCL, which cannot do it.

    Raises:
        ComponentError: each of several workers gets a part of a GPU, and the backend is not gloo.
    """
    share = resources_per_worker(scaling).get("GPU", 0)
    workers = scaling.num_workers
    most = workers[-1] if isinstance(workers, tuple) else workers
    if most > 1 and 0 < share < 1 and torch_config.backend != "gloo":
        raise ComponentError(
            f"each of {most} workers gets {share:g} GPU, but NCCL cannot connect workers that share a GPU: give each a "
            f"whole one, or choose another backend (ray.backend: gloo)"
        )
