"""Measures batches that other CPUs of a cluster make (`ray.ingest: cluster`) against those of the training worker.

    python benchmarks/ingest_cluster.py [--rows 2000] [--rounds 3] [--quick] [CASE ...]

    same_cores  JPEGs on the CPUs of this machine, either way; seconds until the first batch
    ways        the same through Ray Data: a pipeline for the rank, and one that streaming_split hands out
    waiting     rows that each wait 50 ms for a store: a worker with one CPU, and 16 idle CPUs of another node
    copies      1,000 batches of 8 MiB: copies on the worker, GiB per second
    memory      object store and memory of the worker after each of ten epochs

The two sides run in turn in one process, several times; rates and ratios are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import ray
import ray.data
import torch
from ingest import our_pictures, write_pictures
from ray.cluster_utils import Cluster

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.loader import PhaseLoader
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.seeded_rows import SeededRows
from ray_classy.ingest import ray_feed_task
from ray_classy.ingest.ray_feed import ClusterFeed
from ray_classy.ingest.ray_room import room_beside
from ray_classy.user_code import Search

MIB = 1 << 20
BATCH = 64
Way = Callable[[int], Iterable[Any]]


def plan_of(dataset: ClassyDataset, epoch: int) -> PhasePlan:
    """The plan of a train phase on one rank."""
    size = dataset.get_batchsize_per_replica()
    return PhasePlan(len(dataset), size, train=True, shuffle=True, epoch=epoch)


def fed(dataset: ClassyDataset, feed: ClusterFeed | None) -> Way:
    """The batches of an epoch, made by this process or by a feed."""

    def batches(epoch: int) -> Iterable[Any]:
        dataset.feed = feed
        return iter(PhaseLoader(dataset, plan_of(dataset, epoch)))

    return batches


def cluster_feed(held: float) -> ClusterFeed:
    """A feed from the CPUs that training workers on this node, which hold some, leave."""
    here = ray.get_runtime_context().get_node_id()
    return ClusterFeed("cluster", None, 1, lambda: room_beside({here: held}))


def through_ray_data(dataset: ClassyDataset, split: bool) -> Way:
    """The same batches through a Ray Data pipeline over the planned batches, in their order."""
    source = ray_feed_task.Source(ray.put(dataset), Search.here(), os.getcwd())

    def batches(epoch: int) -> Iterator[Any]:
        dataset.feed = None
        plan = plan_of(dataset, epoch)
        rows = SeededRows(dataset, plan)
        small = plan_of(dataset, epoch)

        def make(block: dict[str, Any]) -> dict[str, Any]:
            inside = SeededRows(ray_feed_task._dataset(source), small)
            batch = inside.collate(inside.__getitems__([int(number) for number in block["numbers"][0]]))
            return {
                "input": batch.sample["input"].numpy(),
                "target": batch.sample["target"].numpy(),
                "number": batch.numbers,
            }

        planned = [{"numbers": numbers} for numbers in plan.batches()]
        pipeline = ray.data.from_items(planned, override_num_blocks=len(planned))
        pipeline = pipeline.map_batches(make, batch_size=None, num_cpus=1)
        pipeline.context.execution_options.preserve_order = True
        source_of_batches = pipeline.streaming_split(1, equal=False)[0] if split else pipeline.iterator()
        for made in source_of_batches.iter_batches(batch_size=None, prefetch_batches=4, batch_format="numpy"):
            images = torch.from_numpy(np.array(made["input"]))
            images = rows.placement.batched.batch(images, plan.seed, plan.epoch, np.array(made["number"]))
            yield {"input": images, "target": torch.from_numpy(np.array(made["target"]))}

    return batches


def compare(title: str, ways: dict[str, Way], rounds: int) -> None:
    """Prints rate and first batch of each way, and their ratios to those of the first one in the same round."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for epoch in range(rounds + 1):  # the first one starts processes
        for name, batches in ways.items():
            rows, first, began = 0, 0.0, time.perf_counter()
            for batch in batches(epoch):
                rows += len(batch["target"])
                first = first or time.perf_counter() - began
            measured[name].append((rows / (time.perf_counter() - began), first))
    base = next(iter(measured.values()))
    print(f"{title}\n{'':28}{'rows/s':>9}{'ratio':>7}{'first batch':>13}{'ratio':>7}{'cold':>9}")
    for name, passes in measured.items():
        rate, first = (statistics.median(numbers) for numbers in zip(*passes[1:], strict=True))
        pairs = list(zip(passes[1:], base[1:], strict=True))
        rates, firsts = (statistics.median(one[i] / other[i] for one, other in pairs) for i in (0, 1))
        print(f"{name:28}{rate:9,.0f}{rates:7.2f}{first:11.3f} s{firsts:7.2f}{passes[0][1]:7.1f} s")
    print()


class Numbers(torch.utils.data.Dataset):
    """Rows of bytes that take a while."""

    def __init__(self, rows: int, size: int, seconds: float = 0.0) -> None:
        self.rows, self.size, self.seconds = rows, size, seconds

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.seconds)
        return {"input": torch.full((self.size,), index % 256, dtype=torch.uint8), "target": index % 10}


def same_cores(rows: int, rounds: int) -> None:
    """JPEGs, decoded by the threads of the worker or by tasks, on the same CPUs."""
    with tempfile.TemporaryDirectory() as folder, local():
        write_pictures(folder, rows)
        dataset = our_pictures(folder, BATCH)
        ways = {"worker": fed(dataset, None), "cluster": fed(dataset, cluster_feed(0.0))}
        compare(f"{rows} JPEGs on {os.cpu_count()} CPUs", ways, rounds)


def ways(rows: int, rounds: int) -> None:
    """The same through Ray Data."""
    with tempfile.TemporaryDirectory() as folder, local():
        write_pictures(folder, rows)
        dataset = our_pictures(folder, BATCH)
        compare(
            f"{rows} JPEGs on {os.cpu_count()} CPUs: who is given the planned batches",
            {
                "worker": fed(dataset, None),
                "tasks": fed(dataset, cluster_feed(0.0)),
                "a pipeline for the rank": through_ray_data(dataset, split=False),
                "streaming_split": through_ray_data(dataset, split=True),
            },
            rounds,
        )


def waiting(rows: int, rounds: int) -> None:
    """Rows that wait for a store."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=16)
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        dataset = ClassyDataset(Numbers(rows // 4, 1000, 0.05), 8, shuffle=True)
        ways = {"worker, 1 CPU": fed(dataset, None), "16 CPUs of another node": fed(dataset, cluster_feed(1.0))}
        compare(f"{rows // 4} rows of 50 ms", ways, max(1, rounds // 2))
    finally:
        ray.shutdown()
        cluster.shutdown()


def copies(rows: int, rounds: int) -> None:
    """Large batches."""
    count, copied = rows // 2, []
    received = ray_feed_task._received

    def counted(array: np.ndarray) -> torch.Tensor:
        copied.append((array.nbytes, array.flags.owndata))
        return received(array)

    with local():
        dataset = ClassyDataset(Numbers(8 * count, MIB), 8, shuffle=False)
        ways = fed(dataset, cluster_feed(0.0))
        for _ in zip(range(4), ways(0), strict=False):  # starts processes
            pass
        ray_feed_task._received = counted
        began = time.perf_counter()
        made = sum(1 for _ in ways(0))
        seconds = time.perf_counter() - began
        ray_feed_task._received = received
    large = [owned for size, owned in copied if size >= 8 * MIB]
    print(
        f"{made} batches of 8 MiB: {len(large) / made:.2f} copies of each on the worker, "
        f"{sum(large)} of them of memory that Ray had copied before; {made * 8 / 1024 / seconds:.2f} GiB/s\n"
    )


def memory(rows: int, rounds: int) -> None:
    """Memory over epochs."""
    with local():
        dataset = ClassyDataset(Numbers(rows, 64 * 1024), BATCH, shuffle=True)
        way = fed(dataset, cluster_feed(0.0))
        print("epoch   object store in use at its end, most in it   memory of the worker")
        for epoch in range(10):
            most = 0.0
            for number, _ in enumerate(way(epoch)):
                if number % 8 == 0:
                    most = max(most, in_store())
            time.sleep(1.0)
            print(f"{epoch:5}   {in_store():8.1f} MiB {most:22.1f} MiB {resident():18.0f} MiB")
    print()


def in_store() -> float:
    """MiB of objects in the store, as Ray reports them about once a second."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return (total["object_store_memory"] - free.get("object_store_memory", 0.0)) / MIB


def resident() -> float:
    """MiB of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


class local:
    """A local Ray for a block."""

    def __enter__(self) -> None:
        ray.init("local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False

    def __exit__(self, *error: Any) -> None:
        ray.shutdown()


CASES = {"same_cores": same_cores, "ways": ways, "waiting": waiting, "copies": copies, "memory": memory}


def main() -> None:
    """Runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few rows, to check that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.cases:
        CASES[name](300 if arguments.quick else arguments.rows, 1 if arguments.quick else arguments.rounds)


if __name__ == "__main__":
    main()
