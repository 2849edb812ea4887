"""Measures how long a two-worker run takes to start and end, against a bare TorchTrainer.

    python benchmarks/startup.py [--repeats 3]

Each variant runs in a separate process, in turn, on a local Ray that is already running. One `fit` is measured.
"""

import argparse
import statistics
import subprocess
import sys

BARE = """
import os, time
{settings}
import ray
from ray.train import ScalingConfig, RunConfig
from ray.train.torch import TorchTrainer
ray.init("local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
def loop():
    import torch, torchvision
began = time.perf_counter()
TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=2), run_config=RunConfig(storage_path="{storage}")).fit()
print("seconds", time.perf_counter() - began)
"""
OURS = """
import time
import ray
from ray.train import ScalingConfig
from ray_classy.config import apply_overrides, load_config
from ray_classy.tasks import build_task
from ray_classy.trainer import RayTrainer
ray.init("local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
task = build_task(apply_overrides(load_config("configs/digits.yaml"), ["num_epochs=1", "dataset.train.num_samples=64"]))
began = time.perf_counter()
RayTrainer(ScalingConfig(num_workers=2), storage_path="{storage}").train(task)
print("seconds", time.perf_counter() - began)
"""
SETTINGS = """
os.environ.update(RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.1", RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0")
"""


def seconds(program: str) -> float:
    """Runs a program and returns the time that it prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Prints the median of each variant, and the ratios."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as storage:
        ways = {
            "bare TorchTrainer, Ray's defaults": BARE.format(settings="", storage=storage),
            "bare TorchTrainer, two settings": BARE.format(settings=SETTINGS, storage=storage),
            "RayTrainer, one short epoch": OURS.format(storage=storage),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, program in ways.items():
                times[name].append(seconds(program))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:36} {median:6.1f} s   {', '.join(f'{value:.1f}' for value in times[name])}")
    ours, defaults, tuned = medians["RayTrainer, one short epoch"], *list(medians.values())[:2]
    print(f"ratio to Ray's defaults {ours / defaults:.2f}, to the two settings {ours / tuned:.2f}")


if __name__ == "__main__":
    main()
