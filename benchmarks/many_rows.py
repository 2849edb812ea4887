"""Measures the time to the first training step, and the memory, of a run over a manifest of many rows.

    python benchmarks/many_rows.py [--rows 10000 100000 1000000 10000000] [--balanced]

Each size runs in a separate process, on two workers of a local Ray that is already running. The rows repeat the same
few images, so that only their number differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from PIL import Image

RUN = """
import json, os, resource, sys, time
import ray
from ray.train import ScalingConfig
from ray_classy.errors import RunError
from ray_classy.hooks import ClassyHook
from ray_classy.tasks import build_task
from ray_classy.trainer import RayTrainer

class Stop(ClassyHook):
    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def on_step(self, task):
        there, free = ray.cluster_resources(), ray.available_resources()
        with open(os.path.join({folder!r}, "first"), "w") as file:
            file.write(f"{{time.time()}} {{there['object_store_memory'] - free['object_store_memory']}}")
        raise KeyError("the first step is over")

ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before, began = memory(), time.time()
dataset = {{"name": "manifest", "manifest": {manifest!r}, "batchsize_per_replica": 32, "use_shuffle": True}}
dataset["sampling"] = {sampling!r}
task = build_task({{
    "name": "classification_task", "num_epochs": 1, "dataset": {{"train": dataset}},
    "model": {{"name": "mlp", "input_dim": 3 * 224 * 224, "output_dim": 10, "hidden_dims": [8]}},
    "loss": {{"name": "CrossEntropyLoss"}}, "optimizer": {{"name": "sgd", "lr": 0.1}},
}}).set_hooks([Stop()])
built = time.time()
try:
    RayTrainer(ScalingConfig(num_workers=2), storage_path={folder!r}, name="run").train(task)
except RunError:
    pass
first, store = map(float, open(os.path.join({folder!r}, "first")).read().split())
seen = {{"build": built - began, "first": first - began, "memory": memory() - before, "store": store / 2**20}}
print(json.dumps(seen))
"""


def write_manifest(folder: str, rows: int, kind: str) -> str:
    """Writes a manifest with that many rows."""
    images = []
    for number in range(10):
        images.append(os.path.join(folder, f"{number}.jpg"))
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images[-1])
    index = np.arange(rows) % 10
    table = pa.table({"path": pa.array(images).take(pa.array(index)), "label": index})
    path = os.path.join(folder, f"rows.{kind}")
    pyarrow.parquet.write_table(table, path) if kind == "parquet" else pyarrow.csv.write_csv(table, path)
    return path


def main() -> None:
    """Prints a line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--kind", choices=["csv", "parquet"], default="parquet")
    parser.add_argument("--balanced", action="store_true", help="sample the classes equally")
    options = parser.parse_args()
    sampling = {"name": "balanced"} if options.balanced else None
    print(f"{'rows':>12}  {'build':>8}  {'first step':>10}  {'driver':>10}  shared memory of Ray")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            manifest = write_manifest(folder, rows, options.kind)
            program = RUN.format(folder=folder, manifest=manifest, sampling=sampling)
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            seen = json.loads(done.stdout.splitlines()[-1])
        times, memory = (seen["build"], seen["first"]), (seen["memory"], seen["store"])
        print("{:>12,}  {:>6.1f} s  {:>8.1f} s  {:>6} MiB  {:>6.0f} MiB".format(rows, *times, *memory), flush=True)


if __name__ == "__main__":
    main()
