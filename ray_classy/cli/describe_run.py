"""What `ray-classy check` prints about a run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.cli.describe_code import code_lines, describe_code
from ray_classy.cli.given import Given
from ray_classy.cli.output import Answer, short
from ray_classy.config import dotted, dump_yaml, former_keys_used, mark_of, resolve
from ray_classy.config.places import locate
from ray_classy.config.ray_options import RayOptions, amounts
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.data_report import data_report
from ray_classy.dataset.local_copy import cache_folder
from ray_classy.dataset.made_ahead import BATCHES_AHEAD
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.transforms.placement import place
from ray_classy.errors import TaskError
from ray_classy.generic.profiler import compute_flops, count_params
from ray_classy.ingest.feedable import can_be_fed
from ray_classy.ingest.store_memory import PART_OF_STORE, disk_bytes, format_bytes, shared_bytes
from ray_classy.memory import machine_bytes
from ray_classy.redact import redacted_values
from ray_classy.tasks import TASK_REGISTRY, ClassyTask
from ray_classy.tasks.build import draft_task
from ray_classy.tasks.classes import data_notes
from ray_classy.tasks.dry_run import DryRun
from ray_classy.tasks.task_config import RESERVED
from ray_classy.trainer.ray_outline import RayOutline
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.urls import parent

_MOST_MODEL_BYTES = 4 << 40
"""Parameters of a model on other machines, whose memory is not known: more than any has."""


def describe_run(given: Given, spec: RunSpec) -> Answer:
    """Builds the task, tries its parts on rows, and describes the run.

    Raises:
        RayClassyError: a part cannot be built, or does not accept the rows.
    """
    data, lines = _examine(given, spec)
    return Answer("".join([data["resolved"], *(f"# {line}\n" for line in lines)]).rstrip(), data)


def _examine(given: Given, spec: RunSpec) -> tuple[dict[str, Any], list[str]]:
    """Returns the description for programs, and its lines for people."""
    assert spec.config is not None, "a command gives a config"
    former = former_keys_used(spec.config, TASK_REGISTRY, sections=RESERVED)
    task, dry_runs = draft_task(spec.config, spec.world_size, spec.on_gpu)
    _check_memory(task, spec)
    spec.retention.check(task.reported_metrics(), spec.config)
    data: dict[str, Any] = {
        "config": given.file,
        "resolved": dump_yaml(redacted_values(_resolved(task.built_from or spec.config))),
        "former_keys": [dotted(path) for path, _ in former],
    }
    lines = [
        f"{mark_of(spec.config, path)}: {dotted(path)} has no effect: {owner} accepts it from older configs"
        for path, owner in former
    ]
    if task.base_model is not None:
        data["phases"], data["model"] = _phases(task), _model(task, dry_runs)
        data["transforms"] = {phase_type: _transforms(task.datasets[phase_type]) for phase_type in dry_runs}
        lines += [*_phase_lines(task, dry_runs, spec.world_size), *_model_lines(data["model"], dry_runs)]
        data["notes"] = [
            note for kind, one in dry_runs.items() for note in data_notes(kind, task.datasets[kind], one.outputs)
        ]
        remark = task.device_note(spec.on_gpu)
        data["notes"] += [*([] if remark is None else [remark]), *task.weights_note()]
        data["notes"] += [f"data: {line}" for line in data_report(task.datasets)]
        lines += data["notes"]
        if spec.ray is not None:
            data["shared_memory"] = {phase_type: shared_bytes(task.datasets[phase_type]) for phase_type in dry_runs}
            lines.append(_shared_memory(data["shared_memory"]))
            data["batches_ahead"] = _batches_ahead(task, dry_runs)
            lines += [
                f"batches read ahead, {phase_type}: {format_bytes(count)} of each worker's own memory"
                for phase_type, count in data["batches_ahead"].items()
            ]
            data["ingest"] = {
                phase_type: spec.ray.ingest_of(phase_type) if can_be_fed(task.datasets[phase_type]) else "worker"
                for phase_type in dry_runs
            }
            data["ingest_memory"] = spec.ray.ingest_memory
            lines += _ingest_lines(data, spec.world_size)
        data["disk"] = {phase_type: disk_bytes(task.datasets[phase_type]) for phase_type in dry_runs}
        lines += [
            f"disk: {phase_type} is read through a copy of {format_bytes(count)} in {cache_folder()} of each machine"
            for phase_type, count in data["disk"].items()
            if count
        ]
    data["storage_path"], data["cluster"] = parent(spec.check_place().path), _cluster(spec.ray)
    data["resumes"] = spec.resume
    if spec.ray is not None:
        data["code"] = describe_code(data["cluster"]["address"])
        lines += code_lines(data["code"])
    place = f"resumes: {short(spec.resume)}" if spec.resume else f"runs in: {short(data['storage_path'])}"
    return data, [*lines, place, f"cluster: {_cluster_line(data['cluster'])}"]


def _check_memory(task: ClassyTask, spec: RunSpec) -> None:
    """Refuses a model that is too large for this machine, if it trains here; of other machines nothing is known."""
    address = spec.ray is not None and (spec.ray.address or os.environ.get("RAY_ADDRESS"))
    most = machine_bytes() if address in (False, None, "local") else None
    if task.base_model is None:
        return
    size = sum(parameter.numel() * parameter.element_size() for parameter in task.base_model.parameters())
    if size > (most or _MOST_MODEL_BYTES):
        there = f"this machine has {format_bytes(most)}" if most else f"{format_bytes(_MOST_MODEL_BYTES)} is the limit"
        raise TaskError(
            f"{locate(task.built_from, 'model')}the model has {count_params(task.base_model):,} parameters, which take "
            f"{format_bytes(size)} of memory, and {there}: make its layers smaller"
        )


def _shared_memory(bytes_by_phase: dict[str, int]) -> str:
    each = ", ".join(f"{phase_type} {format_bytes(count)}" for phase_type, count in bytes_by_phase.items() if count)
    if not each:
        return "rows in Ray's object store: none"
    return f"rows in Ray's object store: about {each}, whatever the number of workers"


def _batches_ahead(task: ClassyTask, dry_runs: dict[str, DryRun]) -> dict[str, int]:
    """Returns the bytes of the batches read ahead by a worker, by phase type, if inputs have one shape."""
    ahead = {}
    for phase_type, dry_run in dry_runs.items():
        dataset = task.datasets[phase_type]
        if dry_run.input_shape is not None:
            placed = getattr(dataset, "samples_are_transformed_rows", False)
            batched = place(dataset.transform).batched if placed else None
            packed = batched is not None and batched.take_images
            row = math.prod(dry_run.input_shape) * (1 if packed else 4)
            ahead[phase_type] = (BATCHES_AHEAD + 1) * dataset.get_batchsize_per_replica() * row
    return ahead


def _ingest_lines(data: Mapping[str, Any], world_size: int) -> Iterator[str]:
    """Says who makes the batches and, where other CPUs of the cluster may, what is needed for it."""
    for phase_type, way in data["ingest"].items():
        if way == "worker":
            yield f"batches, {phase_type}: made by the workers (ingest: worker)"
            continue
        each = data["batches_ahead"].get(phase_type, 0) // (BATCHES_AHEAD + 1)
        size = f", {format_bytes(each)} a batch," if each else ""
        memory = data["ingest_memory"]
        room = f"{PART_OF_STORE:.0%} of the smallest node's object store" if memory is None else format_bytes(memory)
        fits = f", {memory // world_size // each} batches for each worker" if memory is not None and each else ""
        others = "other CPUs of the cluster" if way == "cluster" else "other nodes"
        who = others if way == "cluster" else f"the workers, and by {others} if training waits for data"
        yield (
            f"batches, {phase_type}: made by {who} (ingest: {way}); what {others} have ready{size} takes at most "
            f"{room}{fits}"
        )


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with the defaults of all keys; of the ray section, with those that are not null."""
    keys = {name: key for name, key in RayOptions.keys().items() if key.default is not None}
    ray = {**RESERVED, "ray": RESERVED["ray"]._replace(annotation=keys)}
    return resolve(config, TASK_REGISTRY, sections=ray)


def _phases(task: ClassyTask) -> dict[str, int]:
    phases = task.planned_phases()
    return {"train": sum(phase["train"] for phase in phases), "test": sum(not phase["train"] for phase in phases)}


def _phase_lines(task: ClassyTask, dry_runs: dict[str, DryRun], world_size: int) -> Iterator[str]:
    counts = _phases(task)
    yield "phases: " + " + ".join(f"{count} {kind}" for kind, count in counts.items() if count or kind == "train")
    for phase_type, dry_run in dry_runs.items():
        yield f"{phase_type}: {_plan(task, phase_type, dry_run.rows, world_size)}"
        parts = _transforms(task.datasets[phase_type])
        by_row, by_batch = (", ".join(names) or "nothing" for names in parts.values())
        yield f"{phase_type} transforms: row by row on the CPU: {by_row}; in batches on the training device: {by_batch}"
    simulated = (task.built_from or {}).get("simulated_global_batchsize")
    if simulated is not None:
        yield f"updates: {simulated} rows each, by accumulated gradients"


def _transforms(dataset: ClassyDataset) -> dict[str, list[str]]:
    """Returns the names of the transforms of single rows, and of those of batches."""
    if not getattr(dataset, "samples_are_transformed_rows", False):
        return {"rows": [type(dataset).__name__], "batches": []}
    return dict(zip(("rows", "batches"), place(dataset.transform).names(), strict=True))


def _plan(task: ClassyTask, phase_type: str, rows: int, world_size: int) -> str:
    """Describes the steps of the first phase of a type."""
    dataset, train = task.datasets[phase_type], phase_type == "train"
    parts = getattr(dataset, "phases_per_epoch", 1) if train else 1
    plan = PhasePlan(
        num_rows=rows,
        batch_size=dataset.get_batchsize_per_replica(),
        world_size=world_size,
        train=train,
        drop_last=getattr(dataset, "drop_last", False),
        part=(0, parts),
    )
    each = f"{plan.batch_size}" if world_size == 1 else f"{plan.batch_size} x {world_size} workers"
    text = f"{rows} rows" + (f" in {parts} phases per epoch" if parts > 1 else "")
    text += f", {plan.num_steps} {'step' if plan.num_steps == 1 else 'steps'} of {each} per phase"
    left = plan.rows_left % plan.global_batch_size
    if train and left:
        last = plan.global_rows(plan.num_steps - 1)
        text += (
            f" ({left} rows left out)" if plan.drop_last else f" (the last: {last} {'row' if last == 1 else 'rows'})"
        )
    return text


def _model(task: ClassyTask, dry_runs: dict[str, DryRun]) -> dict[str, Any]:
    dry_run = next(iter(dry_runs.values()), None)
    shape = dry_run.input_shape if dry_run else None
    return {
        "parameters": count_params(task.base_model),
        "flops": _flops(task, shape),
        "input_shape": list(shape) if shape else None,
        "outputs": dry_run.outputs if dry_run else None,
        "classes": dry_run.classes if dry_run else None,
    }


def _flops(task: ClassyTask, shape: tuple[int, ...] | None) -> int | None:
    """Returns the multiply-adds per sample; None if the model takes anything but one tensor."""
    if shape is None:
        return None
    try:
        return compute_flops(task.base_model, shape)
    except Exception:  # the dry run succeeded, so the task calls its model in another way
        return None


def _model_lines(model: dict[str, Any], dry_runs: dict[str, DryRun]) -> Iterator[str]:
    shape = f" of shape {tuple(model['input_shape'])}" if model["input_shape"] else ""
    flops = f", {model['flops']:,} FLOPs (multiply-adds) per sample{shape}" if model["flops"] is not None else ""
    yield f"model: {model['parameters']:,} parameters{flops}"
    if model["outputs"] is not None:
        classes = f"{model['classes']} classes" if model["classes"] else "a dataset that does not name its classes"
        yield f"outputs: {model['outputs']} for {classes}"


def _cluster(settings: RayOutline | None) -> dict[str, Any] | None:
    if settings is None:
        return None
    each, workers = settings.worker_resources, settings.num_workers
    return {
        "workers": list(workers) if isinstance(workers, tuple) else workers,
        "resources_per_worker": each,
        "total": {name: settings.most_workers * amount for name, amount in each.items()},
        "address": settings.address or os.environ.get("RAY_ADDRESS") or None,
    }


def _cluster_line(cluster: dict[str, Any] | None) -> str:
    if cluster is None:
        return "none; trains in one process"
    workers = cluster["workers"]
    several = " to ".join(map(str, workers)) if isinstance(workers, list) else workers
    each, total = amounts(cluster["resources_per_worker"]), amounts(cluster["total"])
    where = cluster["address"] or "a local Ray that is started for the run"
    most = "at most " if isinstance(workers, list) else ""
    return f"{several} {'worker' if workers == 1 else 'workers'} x {each} = {most}{total}, at {where}"
