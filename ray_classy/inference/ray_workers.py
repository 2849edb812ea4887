"""What Ray workers that apply a model reserve, and what is left for CPUs that decode."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from ray_classy.config.ray_options import RayOptions, amounts
from ray_classy.errors import ResourceError
from ray_classy.ray_compat.train import resources_per_worker
from ray_classy.trainer.ray_cluster import check_resources
from ray_classy.trainer.ray_config import RaySettings

_UNITS = (1.0, 0.5, 0.25)
"""Amounts of CPU. All actors and tasks reserve the same, so that what is left of a node is never too little for one."""


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster that apply a model.

    Attributes:
        number: of the workers.
        each: what each reserves, by resource.
        decoder: CPUs that a decoding task reserves; at least one task has room beside the workers.
    """

    number: int
    each: Mapping[str, float]
    decoder: float

    def remote_args(self) -> dict[str, Any]:
        """Returns what a worker reserves as Ray's arguments."""
        others = {name: amount for name, amount in self.each.items() if name not in ("CPU", "GPU")}
        cpus, gpus = self.each.get("CPU", 0), self.each.get("GPU", 0)
        return {"num_cpus": cpus, "num_gpus": gpus, **({"resources": others} if others else {})}


@contextmanager
def workers_on(section: Mapping[str, Any], number: int) -> Iterator[Workers]:
    """Connects to a cluster for the block, after a check that it has room for workers, and a CPU beside them.

    Without `use_gpu` in the section, each worker gets a GPU if the cluster has one for each.

    Args:
        section: the section `ray` of a config.
        number: of workers, at least 1.

    Raises:
        ResourceError: it has not; the message shows the arithmetic.
    """
    options = RayOptions.of({**section, "num_workers": number})
    settings = RaySettings.of(options)
    with settings.connected():
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        each: dict[str, float] = dict(options.resources_per_worker or {})
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if section.get("use_gpu") or (section.get("use_gpu") is None and "GPU" not in each and gpus >= number):
            each.setdefault("GPU", 1.0)
        decoder = _unit(nodes, number, each.get("CPU"))
        each.setdefault("CPU", decoder)
        scaling = dataclasses.replace(settings.scaling, use_gpu=bool(each.get("GPU")), resources_per_worker=each)
        check_resources(scaling, settings.wait_for_resources_s, settings.autoscaling, beside={"CPU": decoder})
        yield Workers(number, resources_per_worker(scaling), decoder)


def _unit(nodes: list[Mapping[str, float]], number: int, given: float | None) -> float:
    """Returns the CPUs of a decoding task, and of a worker for which none are given."""
    total = sum(node.get("CPU", 0.0) for node in nodes)
    if given is not None:
        if total - number * given >= 1:
            return 1.0
        left = {"CPU": max(0.0, total - number * given)}
        what = f"{number} workers x {given:g} CPU leave {amounts(left)} of {total:g}"
        raise ResourceError(f"{what}, and one CPU must be left to decode images: lower --num-workers")
    for unit in _UNITS:
        if sum(int(node.get("CPU", 0.0) / unit) for node in nodes) > number:
            return unit
    raise ResourceError(
        f"{number} workers need {_UNITS[-1]:g} CPU each, and as much must be left to decode images, but the cluster "
        f"has {total:g} CPU: lower --num-workers, or leave it out to predict in this process"
    )
