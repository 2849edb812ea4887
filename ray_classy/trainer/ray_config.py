"""Ray Train's config objects for a run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig

from ray_classy.config.ray_options import Ingest, RayOptions, address_problem, ingest_problems, resource_problems
from ray_classy.errors import ComponentError
from ray_classy.ray_compat import settings as settings_of_ray
from ray_classy.ray_compat.train import config_fields, resources_per_worker
from ray_classy.trainer.ray_connection import connected
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH


@dataclass(frozen=True)
class RaySettings:
    """Settings of a run on a Ray cluster; Ray's config objects are built once, here.

    Attributes:
        scaling: how many workers, and what each gets.
        run_config: Ray's, with its failure and checkpoint configs.
        torch_config: Ray's settings of the process group.
        address: of the cluster; None takes RAY_ADDRESS, and without it starts a local Ray.
        upload_mode: "ASYNC" writes checkpoints while training continues, "SYNC" waits for each.
        autoscaling: whether nodes are added to the cluster on demand.
        wait_for_resources_s: how long to wait for resources that others hold, or that are to be added, in seconds.
        runtime_env: Ray's runtime environment of the workers.
        object_store_memory: bytes of shared memory of a local Ray; None leaves it to Ray.
        ingest: who makes the batches: "worker", "cluster" or "auto", or one of them by phase type.
        ingest_memory: bytes of batches of all workers in shared memory; None takes a part of it.
        verbose: let Ray and the workers print.
    """

    scaling: ScalingConfig
    run_config: RunConfig
    torch_config: TorchConfig
    address: str | None = None
    upload_mode: Literal["ASYNC", "SYNC"] = "ASYNC"
    autoscaling: bool = False
    wait_for_resources_s: float = 60.0
    runtime_env: Mapping[str, Any] | None = None
    object_store_memory: int | None = None
    ingest: Ingest | Mapping[str, Ingest] = "auto"
    ingest_memory: int | None = None
    verbose: bool = False

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
        described = {name: getattr(section, key) for name, key in OUR_OWN.items()}
        asked = {**described, **{name: value for name, value in options.items() if value is not None}}
        settings_of_ray.check_train()
        _check_known(section)
        settings = cls(
            scaling_config or _built(ScalingConfig, section),
            run_config or _run_config(section),
            torch_config or _built(TorchConfig, section),
            **{name: value for name, value in asked.items() if value is not None},
        )
        if settings.most_workers == 0:
            raise ComponentError("num_workers is 0; to train in this process use LocalTrainer (--local)")
        for problem in resource_problems(settings.scaling.resources_per_worker, ()):
            raise ComponentError(f"resources_per_worker: {problem.message}")
        for problem in ingest_problems(settings.ingest, settings.ingest_memory):
            raise ComponentError(f"{'.'.join(map(str, problem.path))}: {problem.message}")
        check_gpu_shares(settings.scaling, settings.torch_config)
        _check_connection(settings)
        return settings

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """A connection to the cluster of these settings for a block."""
        return connected(
            self.address,
            self.verbose,
            runtime_env=self.runtime_env,
            object_store_memory=self.object_store_memory,
        )

    def ingest_of(self, phase_type: str) -> Ingest:
        """Who makes the batches of a phase."""
        return self.ingest if isinstance(self.ingest, str) else self.ingest.get(phase_type, "auto")

    @property
    def most_workers(self) -> int:
        """The number of workers; of an elastic run, the largest."""
        workers = self.scaling.num_workers
        return workers[-1] if isinstance(workers, tuple) else workers

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change during the run."""
        return isinstance(self.scaling.num_workers, tuple)

    @property
    def max_failures(self) -> int:
        """Failures after which the run is tried again; -1 is no limit."""
        return self.run_config.failure_config.max_failures if self.run_config.failure_config else 0


def _check_connection(settings: RaySettings) -> None:
    problem = None if settings.address is None else address_problem(settings.address)
    if problem is not None:
        raise ComponentError(f"address is {settings.address!r}: {problem}")
    least, memory = settings_of_ray.LEAST_OBJECT_STORE_MEMORY, settings.object_store_memory
    if memory is not None and memory < least:
        raise ComponentError(f"object_store_memory is {memory} bytes, but Ray needs at least {least} (75 MiB)")


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
OUR_OWN = {
    "address": "address",
    "autoscaling": "autoscaling",
    "ingest": "ingest",
    "ingest_memory": "ingest_memory",
    "object_store_memory": "object_store_memory",
    "runtime_env": "runtime_env",
    "upload_mode": "checkpoint_upload_mode",
    "wait_for_resources_s": "wait_for_resources_s",
}
"""The option of the `ray` section for each attribute of `RaySettings` that is not one of Ray's objects."""


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
