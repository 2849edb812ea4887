"""How many CPUs a worker reads with."""

import os
import subprocess
import sys

import pytest

from ray_classy.ingest import ray_ingest
from ray_classy.ingest.ray_ingest import part_of_machine

WORKER = """
import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from ray_classy.ingest.ray_ingest import cpus_of_worker
ray.init("local", num_cpus=3, num_gpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
read = ray.remote(cpus_of_worker)
options = [(0, 1), (0, 2), (2, 1), (0.5, 0)]
print(*[ray.get(read.options(num_cpus=cpus, num_gpus=gpus).remote()) for cpus, gpus in options])
for bundle in ({"GPU": 1}, {"GPU": 1, "CPU": 2}, {"CPU": 1}):  # as Ray Train starts workers
    group = ray.util.placement_group([bundle])
    ray.get(group.ready())
    strategy = PlacementGroupSchedulingStrategy(group)
    options = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0), "scheduling_strategy": strategy}
    print(ray.get(read.options(**options).remote()))
    ray.util.remove_placement_group(group)
"""


@pytest.mark.parametrize("gpus, of, cpus", [(1, 4, 4), (4, 4, 16), (0.5, 1, 8), (0.1, 8, 1), (2, 1, 16)])
def test_a_part_of_the_gpus_goes_with_that_part_of_the_cpus(monkeypatch, gpus, of, cpus):
    monkeypatch.setattr(ray_ingest, "cpus_of_this_machine", lambda: 16)
    assert part_of_machine(gpus, of) == cpus


@pytest.mark.ray
@pytest.mark.full
def test_a_worker_with_a_gpu_and_no_cpu_has_its_part_of_the_machine():
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=300)
    here = len(os.sched_getaffinity(0))
    part = max(1, here // 2)
    assert list(map(int, done.stdout.split())) == [part, here, 2, 1, part, 2, 1], done.stderr
