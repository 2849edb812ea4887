"""The `ray` section of a config: the options of Ray Train's config classes in one flat mapping.

It is checked without importing Ray, which takes seconds.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray_classy.config.check import Problem
from ray_classy.config.document import Path
from ray_classy.docstrings import argument_docs
from ray_classy.registry import Key, Keys

_ADDRESS = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.%a-z]+\]):(?P<port>[0-9]{1,5})")


_RUNTIME_ENV: Keys = {
    "env_vars": Key(dict[str, str] | None, None),
    "pip": Key(list[str] | str | dict[str, Any] | None, None),
    "uv": Key(list[str] | str | dict[str, Any] | None, None),
    "conda": Key(str | dict[str, Any] | None, None),
    "image_uri": Key(str | None, None),
    "py_executable": Key(str | None, None),
    "py_modules": Key(list[str] | None, None),
    "working_dir": Key(str | None, None),
    "excludes": Key(list[str] | None, None),
    "config": Key(dict[str, Any] | None, None),
}
"""The fields of Ray's `RuntimeEnv` that a config can give."""


Ingest = Literal["worker", "cluster", "auto"]


@dataclass(frozen=True)
class RayOptions:
    """Options of a run on a Ray cluster, named and defaulted as in Ray's own classes.

    An option that is None takes its default.

    Attributes:
        address: of the cluster; None takes RAY_ADDRESS, and without it starts a local Ray.
        autoscaling: whether nodes are added to the cluster on demand: the run waits for resources that the cluster does
            not have yet.
        wait_for_resources_s: how long to wait for resources that others hold, or that are to be added, in seconds.
        runtime_env: Ray's runtime environment of the workers: packages to install (`pip`, `uv`, `conda`), `env_vars`,
            ... The code that the workers lack is added to it.
        object_store_memory: bytes of shared memory of a local Ray; None takes Ray's default, a part of the memory.
        ingest: who reads, decodes and transforms rows: "worker" (the training workers), "cluster" (other CPUs of the
            cluster) or "auto" (other CPUs, if the workers cannot keep up); also a mapping from "train" and "test".
        ingest_memory: bytes of batches of all workers that other CPUs may have ready in shared memory; None takes a
            part of it.
        num_workers: worker processes; [least, most] for an elastic run, which continues on as many as there are.
        use_gpu: whether each worker reserves a GPU.
        resources_per_worker: what each worker reserves, by resource, such as {CPU: 4}; None is one CPU, or one GPU.
        placement_strategy: of the workers on nodes: "PACK", "SPREAD", "STRICT_PACK" or "STRICT_SPREAD".
        accelerator_type: kind of GPU that workers need, such as "A100".
        label_selector: labels that the nodes of workers must have, of all workers or in a list for each.
        use_tpu: whether workers run on TPUs.
        topology: of the TPU slice, such as "4x4".
        elastic_resize_monitor_interval_s: how often an elastic run looks for more nodes, in seconds.
        name: of the run; None takes date and time with a random suffix.
        storage_path: folder or URL in which runs are made; None takes `runs`.
        max_failures: how often a run restarts from its latest checkpoint after a worker or a node failed; -1 is always.
        controller_failure_limit: how often Ray's controller of the run is restarted; -1 is always.
        max_preemption_failures: how often a run restarts after preemptions; -1 is always.
        relax_collectives_on_preemption: whether collective operations may wait for longer while nodes are preempted.
        preemption_grace_s: time between the notice of a preemption and its end that a run may use, in seconds.
        num_to_keep: checkpoints that are kept, at least 1; None keeps all.
        checkpoint_score_attribute: metric by which the best checkpoints are kept; None keeps the latest ones.
        checkpoint_score_order: whether a greater ("max") or a smaller ("min") metric is better.
        backend: of torch.distributed: "nccl", "gloo", ...; None takes nccl on GPUs, gloo on CPUs.
        init_method: how the workers find each other: "env" or "tcp".
        timeout_s: after which a collective operation of the workers fails, in seconds.
        checkpoint_upload_mode: "ASYNC" writes checkpoints while training continues, "SYNC" waits for each; None takes
            "ASYNC".
    """

    address: str | None = None
    autoscaling: bool = False
    wait_for_resources_s: float = 60.0
    runtime_env: dict[str, Any] | None = None
    object_store_memory: int | None = None
    ingest: Ingest | dict[str, Ingest] = "auto"
    ingest_memory: int | None = None
    num_workers: int | tuple[int, int] = 1
    use_gpu: bool = False
    resources_per_worker: dict[str, float] | None = None
    placement_strategy: str = "PACK"
    accelerator_type: str | None = None
    label_selector: dict[str, str] | list[dict[str, str]] | None = None
    use_tpu: bool = False
    topology: str | None = None
    elastic_resize_monitor_interval_s: float = 60.0
    name: str | None = None
    storage_path: str | None = None
    max_failures: int = 0
    controller_failure_limit: int = -1
    max_preemption_failures: int = -1
    relax_collectives_on_preemption: bool = False
    preemption_grace_s: float = 0.0
    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: Literal["max", "min"] = "max"
    backend: str | None = None
    init_method: str = "env"
    timeout_s: int = 1800
    checkpoint_upload_mode: Literal["ASYNC", "SYNC"] | None = None

    @classmethod
    def of(cls, section: Mapping[str, Any] | None) -> RayOptions:
        """Reads a checked section; options that it lacks get their defaults."""
        given = {name: value for name, value in (section or {}).items() if value is not None}
        if isinstance(given.get("num_workers"), list):
            given["num_workers"] = tuple(given["num_workers"])
        if "runtime_env" in given:
            given["runtime_env"] = {name: value for name, value in given["runtime_env"].items() if value is not None}
        return cls(**given)

    @classmethod
    def keys(cls) -> Keys:
        """Returns the keys of the section with types and defaults; each may also be null."""
        hints, docs = typing.get_type_hints(cls), argument_docs(cls)
        keys = {
            field.name: Key(hints[field.name] | None, field.default, docs[field.name])
            for field in dataclasses.fields(cls)
        }
        return {**keys, "runtime_env": keys["runtime_env"]._replace(annotation=_RUNTIME_ENV)}

    def problems(self) -> list[Problem]:
        """Returns the mistakes that the types of the keys do not show."""
        problems = resource_problems(self.resources_per_worker, ("ray", "resources_per_worker"))
        problems += ingest_problems(self.ingest, self.ingest_memory)
        if self.num_to_keep is not None and self.num_to_keep < 1:
            text = f"must be at least 1, not {self.num_to_keep}; null keeps all checkpoints"
            problems.append(Problem(("ray", "num_to_keep"), text))
        return problems

    def given(self) -> dict[str, Any]:
        """Returns the options that differ from their defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


_RESOURCES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU", "memory": "memory"}


def resource_problems(resources: Any, path: Path) -> list[Problem]:
    """Returns the mistakes in the names of resources: Ray takes `cpu` for a resource of that name, which no node has.

    Args:
        resources: a mapping from names to amounts, or None.
        path: where it stands.
    """
    return [
        Problem((*path, name), f"{name!r} is not a resource of Ray: write {right}")
        for name in resources or {}
        if (right := _RESOURCES.get(str(name).lower(), name)) != name
    ]


def amounts(resources: Mapping[str, float]) -> str:
    """Describes resources, such as `2 CPU + 1 GPU`."""
    return " + ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"


def ingest_problems(ingest: Any, memory: int | None) -> list[Problem]:
    """Returns the mistakes in who makes the batches, and in the bytes that they may take.

    Args:
        ingest: one of `Ingest`, or a mapping from phase types to them.
        memory: bytes, or None.
    """
    ways = ingest if isinstance(ingest, Mapping) else {"train": ingest}
    found = [
        Problem(("ray", "ingest", str(phase_type)), f"no phase type {phase_type!r}: write train or test")
        for phase_type in ways
        if phase_type not in ("train", "test")
    ]
    for way in ways.values():
        if way not in typing.get_args(Ingest):
            found.append(Problem(("ray", "ingest"), f"must be {', '.join(typing.get_args(Ingest))}, not {way!r}"))
    if memory is not None and (type(memory) is not int or memory < 1):
        found.append(Problem(("ray", "ingest_memory"), f"must be a number of bytes of at least 1, not {memory!r}"))
    return found


RAY_KEYS: Keys = {"ray": Key(RayOptions.keys(), {}, "workers, failures, checkpoints and the cluster.")}
"""The reserved key `ray` of a task's config, for the check of the whole config."""


def address_problem(address: str) -> str | None:
    """Says what is wrong with the address of a cluster; None if nothing is.

    Args:
        address: "auto", "local", host:port, or ray://host:port.
    """
    how = "expected host:port, such as localhost:6379, or auto for a cluster on this machine"
    if address in ("auto", "local"):
        return None
    scheme, separator, rest = address.rpartition("://")
    if separator and scheme != "ray":
        return f"{scheme}:// is not the address of a cluster, but may be that of its dashboard; {how}"
    found = _ADDRESS.fullmatch(rest.removesuffix("/") if separator else rest)
    if found is None:
        return how if ":" in rest else f"the port is missing; {how}"
    return None if 0 < int(found["port"]) < 1 << 16 else f"there is no port {found['port']}; {how}"
