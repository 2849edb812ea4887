"""`ray-classy bench-data`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.bench_cluster import cluster_lines, has_cluster, measure_on_cluster
from ray_classy.cli.given import Given, refuse_search
from ray_classy.cli.output import Answer
from ray_classy.config.places import locate_errors
from ray_classy.config.ray_options import RayOptions
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.cpus import cpus_of_this_process
from ray_classy.dataset.measure import Speeds, measure
from ray_classy.errors import ConfigError
from ray_classy.tasks.data_sections import build_phase_dataset, phase_types_of
from ray_classy.tasks.preprocessing import with_preprocessing
from ray_classy.tasks.task_config import checked

_WHAT = {
    "source": "raw rows, read by one thread",
    "decode": "images decoded by one thread",
    "transforms": "transforms of single rows, by one thread",
    "batches": "batched transforms, on the training device",
}
_REMEDIES = {
    "source": "more threads read at once with dataset.{phase}.num_workers; a store near the workers, or WebDataset "
    "shards in place of many small files",
    "decode": "more CPUs for each worker (ray.resources_per_worker) or more workers; smaller image files",
    "transforms": "more CPUs for each worker (ray.resources_per_worker), or fewer and cheaper entries of "
    "dataset.{phase}.transforms; flips, normalisation and erasing at their end run in batches",
    "batches": "a GPU for each worker (ray.use_gpu), or fewer entries at the end of dataset.{phase}.transforms",
}


def bench_data(given: Given) -> Answer:
    """Measures how fast one process of this machine reads the datasets of a config, and names the slowest step.

    Where a cluster is named, its other CPUs are tried too.

    Raises:
        RayClassyError: the config has a mistake, or its data cannot be read.
    """
    if given.flags.rows < 1:
        raise UsageError(f"--rows must be at least 1, not {given.flags.rows}")
    refuse_search(given, "bench-data")
    checked(given.config)
    with locate_errors(given.config, "model"):
        config = with_preprocessing(given.config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data: dict[str, Any] = {"config": given.file, "cpus": cpus_of_this_process(), "device": device.type}
    lines = [f"one process with {data['cpus']} CPUs, batches on the {'GPU' if device.type == 'cuda' else 'CPU'}"]
    datasets = {}
    for phase_type in phase_types_of(config):
        with locate_errors(config, "dataset", phase_type):
            dataset = build_phase_dataset(config, phase_type)
        if not isinstance(dataset, ClassyDataset) or type(dataset).iterator is not ClassyDataset.iterator:
            raise ConfigError(
                f"the {phase_type} dataset {type(dataset).__name__} overrides `iterator`, and bench-data measures the "
                f"loader of ClassyDataset"
            )
        datasets[phase_type] = dataset
    section = RayOptions.of(config.get("ray"))
    speeds = {kind: measure(dataset, kind, given.flags.rows, device) for kind, dataset in datasets.items()}
    on_cluster = {}
    if has_cluster(section):
        on_cluster = measure_on_cluster(config, section, datasets, given.flags.rows, device, given.flags.verbose)
    for kind, dataset in datasets.items():
        steps = speeds[kind].steps
        slowest = min(steps, key=steps.__getitem__)
        data[kind] = {**speeds[kind]._asdict(), "bottleneck": slowest}
        lines += ["", *_lines(kind, len(dataset), speeds[kind], slowest)]
        if kind in on_cluster:
            data[kind]["cluster"] = on_cluster[kind]
            lines += cluster_lines(on_cluster[kind], speeds[kind].feed)
    return Answer("\n".join(lines), data)


def _lines(phase_type: str, rows: int, speeds: Speeds, slowest: str) -> Iterator[str]:
    yield f"{phase_type}: {rows:,} rows; rows per second of"
    for name, speed in speeds.steps.items():
        yield f"  {name:<11} {speed:>12,.0f}   {_WHAT[name]}"
    first, ratio = f"{speeds.first_batch:.2f} s", f"{speeds.feed / speeds.dataloader:.2f}"
    yield f"  {'feed':<11} {speeds.feed:>12,.0f}   all steps, as in training; the first batch after {first}"
    yield f"  {'DataLoader':<11} {speeds.dataloader:>12,.0f}   torch's, a process per CPU; feed / DataLoader {ratio}"
    yield f"  the slowest step is {slowest}: {_REMEDIES[slowest].format(phase=phase_type)}"
