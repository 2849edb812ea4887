"""A run on a Ray cluster, as far as it can be told without importing Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ray_classy.config.ray_options import Ingest, RayOptions, address_problem, ingest_problems
from ray_classy.errors import ComponentError
from ray_classy.ray_compat import settings as settings_of_ray

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
"""The option of the `ray` section for each attribute that is not one of Ray's objects."""

_NOTHING_TO_REFUSE = {*OUR_OWN.values(), "num_workers", "name", "storage_path", "num_to_keep"}
"""Options of which Ray refuses no value that has passed the check of the config; but a number of workers below 0."""


@dataclass(frozen=True, kw_only=True)
class RayOutline:
    """What `ray-classy check` tells of a run on Ray; `RaySettings` adds Ray's own objects, of which Ray checks more.

    Attributes:
        section: the options of the config's `ray` section.
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

    section: RayOptions = field(default_factory=RayOptions)
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
    def of_section(cls, section: RayOptions, verbose: bool = False) -> Self:
        """The outline of a run.

        Raises:
            ComponentError: the options do not go together.
            ResourceError: the environment selects a Ray Train that this package does not run on.
        """
        outline = cls(**own_options(section, verbose=verbose))
        outline.check()
        return outline

    @property
    def num_workers(self) -> int | tuple[int, int]:
        """The number of workers; of an elastic run, the least and the most."""
        return self.section.num_workers

    @property
    def use_gpu(self) -> bool:
        """Whether the workers have GPUs."""
        return self.section.use_gpu

    @property
    def worker_resources(self) -> dict[str, float]:
        """What each worker reserves: Ray's default, if the section says nothing of it."""
        return {"CPU": 1.0}

    @property
    def most_workers(self) -> int:
        """The number of workers; of an elastic run, the largest."""
        return self.num_workers[-1] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change during the run."""
        return isinstance(self.num_workers, tuple)

    def ingest_of(self, phase_type: str) -> Ingest:
        """Who makes the batches of a phase."""
        return self.ingest if isinstance(self.ingest, str) else self.ingest.get(phase_type, "auto")

    def check(self) -> None:
        """Refuses what cannot be, of which Ray knows nothing or would complain late; errors as of `of_section`."""
        settings_of_ray.check_train()
        if self.most_workers == 0:
            raise ComponentError("num_workers is 0; to train in this process use LocalTrainer (--local)")
        for problem in ingest_problems(self.ingest, self.ingest_memory):
            raise ComponentError(f"{'.'.join(map(str, problem.path))}: {problem.message}")
        wrong = None if self.address is None else address_problem(self.address)
        if wrong is not None:
            raise ComponentError(f"address is {self.address!r}: {wrong}")
        least, memory = settings_of_ray.LEAST_OBJECT_STORE_MEMORY, self.object_store_memory
        if memory is not None and memory < least:
            raise ComponentError(f"object_store_memory is {memory} bytes, but Ray needs at least {least} (75 MiB)")


def own_options(section: RayOptions, **given: Any) -> dict[str, Any]:
    """The attributes of a `RayOutline`.

    Args:
        section: of the config.
        given: attributes to take in place of the section's; one that is None is taken from it, or has its default.
    """
    described = {name: getattr(section, key) for name, key in OUR_OWN.items()}
    asked = {**described, **{name: value for name, value in given.items() if value is not None}}
    return {"section": section, **{name: value for name, value in asked.items() if value is not None}}


def is_outlined(section: RayOptions) -> bool:
    """Whether an outline tells all of a run: the section has no option that Ray might refuse or lacks."""
    plain = isinstance(section.num_workers, int) and section.num_workers >= 0
    return plain and section.given().keys() <= _NOTHING_TO_REFUSE
