"""`ray-classy check`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.cli.given import Given
from ray_classy.cli.output import Answer, short
from ray_classy.cli.spec import spec_of
from ray_classy.config import dotted, dump_yaml, former_keys_used, mark_of, resolve
from ray_classy.config.document import search_node
from ray_classy.config.ray_section import RaySection
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.local_copy import cache_folder
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.seeded_rows import BATCHES_AHEAD
from ray_classy.dataset.transforms.placement import place
from ray_classy.generic.profiler import compute_flops, count_params
from ray_classy.ingest.store_memory import disk_bytes, format_bytes, shared_bytes
from ray_classy.tasks import TASK_REGISTRY, ClassyTask
from ray_classy.tasks.build import draft_task
from ray_classy.tasks.dry_run import DryRun
from ray_classy.tasks.task_config import RESERVED
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.urls import parent

if TYPE_CHECKING:
    from ray_classy.trainer.ray_config import RaySettings


def check(given: Given) -> Answer:
    """Everything that `train` looks at before it starts, and what would be started.

    The text is the resolved config, with the rest in comments: it is a config file itself.

    Raises:
        RayClassyError: there is a mistake; the message says where.
    """
    if search_node(given.config) is not None:
        return _sweep(given)
    data, lines = _examined(given, spec_of(given))
    return Answer("".join([data["resolved"], *(f"# {line}\n" for line in lines)]).rstrip(), data)


def _sweep(given: Given) -> Answer:
    """What a sweep would search, and how."""
    from ray_classy.cli.tune import tuner_for
    from ray_classy.ray_compat.train import resources_per_worker
    from ray_classy.trainer.ray_cluster import amounts
    from ray_classy.tune.plan import Plan
    from ray_classy.tune.space import in_words

    plan = Plan(tuner_for(given))
    scheduler, chosen = (given.config.get("tune") or {}).get("scheduler") or {"name": "fifo"}, plan.tune_config
    total = "no end of" if plan.total == float("inf") else int(plan.total)
    each = resources_per_worker(plan.settings.scaling)
    workers = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
    data: dict[str, Any] = {
        "config": given.file,
        "searched": {node.name: in_words(node) for node in plan.space.nodes},
        "trials": None if plan.total == float("inf") else int(plan.total),
        "epochs": plan.examined.epochs,
        "metric": chosen.metric,
        "mode": chosen.mode,
        "metrics": plan.examined.metrics,
        "resources_per_trial": {name: plan.workers * amount for name, amount in each.items()},
    }
    lines = [f"searched: {name}: {words}" for name, words in data["searched"].items()]
    of = f"of {plan.examined.epochs} epochs, {scheduler['name']}, by {chosen.metric} ({chosen.mode})"
    lines += [f"trials: {total} {of}", f"a trial: {workers} x {amounts(each)}"]
    return Answer("\n".join(f"# {line}" for line in lines), data)


def _examined(given: Given, spec: RunSpec) -> tuple[dict[str, Any], list[str]]:
    """What the check found out, for programs and for people."""
    assert spec.config is not None, "a command gives a config"
    former = former_keys_used(spec.config, TASK_REGISTRY, sections=RESERVED)
    task, trials = draft_task(spec.config, spec.world_size, spec.on_gpu)
    spec.retention.check(task.reported_metrics(), spec.config)
    data: dict[str, Any] = {
        "config": given.file,
        "resolved": dump_yaml(_resolved(task.built_from or spec.config)),
        "former_keys": [dotted(path) for path, _ in former],
    }
    lines = [
        f"{mark_of(spec.config, path)}: {dotted(path)} has no effect: {owner} accepts it from older configs"
        for path, owner in former
    ]
    if task.base_model is not None:
        data["phases"], data["model"] = _phases(task), _model(task, trials)
        data["transforms"] = {phase_type: _transforms(task.datasets[phase_type]) for phase_type in trials}
        lines += [*_phase_lines(task, trials, spec.world_size), *_model_lines(data["model"], trials)]
        if spec.ray is not None:
            data["shared_memory"] = {phase_type: shared_bytes(task.datasets[phase_type]) for phase_type in trials}
            lines.append(_shared_memory(data["shared_memory"]))
            data["batches_ahead"] = _batches_ahead(task, trials)
            lines += [
                f"batches read ahead, {phase_type}: {format_bytes(count)} of each worker's own memory"
                for phase_type, count in data["batches_ahead"].items()
            ]
        data["disk"] = {phase_type: disk_bytes(task.datasets[phase_type]) for phase_type in trials}
        lines += [
            f"disk: {phase_type} is read through a copy of {format_bytes(count)} in {cache_folder()} of each machine"
            for phase_type, count in data["disk"].items()
            if count
        ]
    data["storage_path"], data["cluster"] = parent(spec.check_place().path), _cluster(spec.ray)
    data["resumes"] = spec.resume
    place = f"resumes: {short(spec.resume)}" if spec.resume else f"runs in: {short(data['storage_path'])}"
    return data, [*lines, place, f"cluster: {_cluster_line(data['cluster'])}"]


def _shared_memory(held: dict[str, int]) -> str:
    each = ", ".join(f"{phase_type} {format_bytes(count)}" for phase_type, count in held.items())
    return f"Ray's shared memory: about {format_bytes(sum(held.values()))} ({each}), whatever the number of workers"


def _batches_ahead(task: ClassyTask, trials: dict[str, DryRun]) -> dict[str, int]:
    """Bytes of the batches that a worker reads ahead, by phase type, where inputs are tensors of one shape."""
    ahead = {}
    for phase_type, trial in trials.items():
        dataset = task.datasets[phase_type]
        if trial.input_shape is not None:
            placed = getattr(dataset, "samples_are_transformed_rows", False)
            batched = place(dataset.transform).batched if placed else None
            packed = batched is not None and batched.take_images
            row = math.prod(trial.input_shape) * (1 if packed else 4)
            ahead[phase_type] = (BATCHES_AHEAD + 1) * dataset.get_batchsize_per_replica() * row
    return ahead


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the defaults of all keys; of Ray's, those that say something."""
    keys = {name: key for name, key in RaySection.keys().items() if key.default is not None}
    ray = {**RESERVED, "ray": RESERVED["ray"]._replace(annotation=keys)}
    return resolve(config, TASK_REGISTRY, sections=ray)


def _phases(task: ClassyTask) -> dict[str, int]:
    phases = task.planned_phases()
    return {"train": sum(phase["train"] for phase in phases), "test": sum(not phase["train"] for phase in phases)}


def _phase_lines(task: ClassyTask, trials: dict[str, DryRun], world_size: int) -> Iterator[str]:
    counts = _phases(task)
    yield "phases: " + " + ".join(f"{count} {kind}" for kind, count in counts.items() if count or kind == "train")
    for phase_type, trial in trials.items():
        yield f"{phase_type}: {_plan(task, phase_type, trial.rows, world_size)}"
        parts = _transforms(task.datasets[phase_type])
        by_row, by_batch = (", ".join(names) or "nothing" for names in parts.values())
        yield f"{phase_type} transforms: row by row on the CPU: {by_row}; in batches on the training device: {by_batch}"
    simulated = (task.built_from or {}).get("simulated_global_batchsize")
    if simulated is not None:
        yield f"updates: {simulated} rows each, by accumulated gradients"


def _transforms(dataset: ClassyDataset) -> dict[str, list[str]]:
    """What is done to each row by itself, and what to batches, by name."""
    if not getattr(dataset, "samples_are_transformed_rows", False):
        return {"rows": [type(dataset).__name__], "batches": []}
    return dict(zip(("rows", "batches"), place(dataset.transform).names(), strict=True))


def _plan(task: ClassyTask, phase_type: str, rows: int, world_size: int) -> str:
    """The steps of one phase, the first, in words."""
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
    last = plan.rows_left % plan.global_batch_size
    if train and last:
        text += f" ({last} rows left out)" if plan.drop_last else f" (the last: {last} rows)"
    return text


def _model(task: ClassyTask, trials: dict[str, DryRun]) -> dict[str, Any]:
    trial = next(iter(trials.values()), None)
    shape = trial.input_shape if trial else None
    return {
        "parameters": count_params(task.base_model),
        "flops": _flops(task, shape),
        "input_shape": list(shape) if shape else None,
        "outputs": trial.outputs if trial else None,
        "classes": trial.classes if trial else None,
    }


def _flops(task: ClassyTask, shape: tuple[int, ...] | None) -> int | None:
    """Multiply-adds per sample; None where the model takes something else than one tensor."""
    if shape is None:
        return None
    try:
        return compute_flops(task.base_model, shape)
    except Exception:  # preflight ran the model; it was called in a way of the task's own
        return None


def _model_lines(model: dict[str, Any], trials: dict[str, DryRun]) -> Iterator[str]:
    flops = "not counted" if model["flops"] is None else f"{model['flops']:,}"
    shape = f" of shape {tuple(model['input_shape'])}" if model["input_shape"] else ""
    yield f"model: {model['parameters']:,} parameters, {flops} FLOPs (multiply-adds) per sample{shape}"
    if model["outputs"] is not None:
        classes = f"{model['classes']} classes" if model["classes"] else "a dataset that does not name its classes"
        yield f"outputs: {model['outputs']} for {classes}"


def _cluster(settings: RaySettings | None) -> dict[str, Any] | None:
    if settings is None:
        return None
    from ray_classy.ray_compat.train import resources_per_worker

    each = resources_per_worker(settings.scaling)
    workers = settings.scaling.num_workers
    return {
        "workers": list(workers) if isinstance(workers, tuple) else workers,
        "resources_per_worker": each,
        "total": {name: settings.most_workers * amount for name, amount in each.items()},
        "address": settings.address or os.environ.get("RAY_ADDRESS") or None,
    }


def _cluster_line(cluster: dict[str, Any] | None) -> str:
    if cluster is None:
        return "none; trains in one process"
    from ray_classy.trainer.ray_cluster import amounts

    workers = cluster["workers"]
    several = " to ".join(map(str, workers)) if isinstance(workers, list) else workers
    each, total = amounts(cluster["resources_per_worker"]), amounts(cluster["total"])
    where = cluster["address"] or "a local Ray that is started for the run"
    most = "at most " if isinstance(workers, list) else ""
    return f"{several} {'worker' if workers == 1 else 'workers'} x {each} = {most}{total}, at {where}"
