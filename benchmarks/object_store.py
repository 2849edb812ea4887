"""Measures how much of Ray's shared memory a training run uses when its dataset grows tenfold.

    python benchmarks/object_store.py [--mebibytes 80 800]

Rows of half a MiB are stored in Parquet files, or in one file each with the paths in memory. Each combination of size
and kind is trained on once, on two workers of a local Ray. The peak over all steps and the rate are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray.train import ScalingConfig

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.parquet_rows import ParquetRows
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.hooks import ClassyHook
from ray_classy.tasks import build_task
from ray_classy.trainer import RayTrainer

ROW_BYTES, ROWS_PER_FILE, BATCH = 1 << 19, 100, 8


class Peak(ClassyHook):
    """Records the peak use of shared memory, as seen by rank 0."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self.most = file, 0.0

    def on_step(self, task: Any) -> None:
        from ray_classy.distributed import is_primary

        if is_primary():
            there, free = ray.cluster_resources(), ray.available_resources()
            self.most = max(self.most, there["object_store_memory"] - free["object_store_memory"])
            Path(self.file).write_text(str(self.most))


def decode(row: dict[str, Any]) -> dict[str, Any]:
    """Turns a row's bytes into a few numbers."""
    data = row["blob"] if "blob" in row else Path(row["path"]).read_bytes()
    return {"input": torch.frombuffer(bytearray(data[:64]), dtype=torch.uint8).float() / 255, "target": row["label"]}


def parquet(folder: str, rows: int) -> Any:
    """Writes the rows to Parquet files."""
    random = np.random.default_rng(0)
    for begin in range(0, rows, ROWS_PER_FILE):
        blobs = [random.bytes(ROW_BYTES) for _ in range(ROWS_PER_FILE)]
        table = pa.table({"blob": blobs, "label": [number % 2 for number in range(ROWS_PER_FILE)]})
        pq.write_table(table, f"{folder}/{begin:06}.parquet", row_group_size=20)
    return ParquetRows(sorted(map(str, Path(folder).glob("*.parquet"))), ["blob", "label"])


def files(folder: str, rows: int) -> Any:
    """Writes each row to a separate file."""
    random, paths = np.random.default_rng(0), []
    for number in range(rows):
        paths.append(f"{folder}/{number:06}.bin")
        Path(paths[-1]).write_bytes(random.bytes(ROW_BYTES))
    return ItemRows(path=paths, label=[number % 2 for number in range(rows)])


def trained(rows: Any, folder: str) -> tuple[float, float]:
    """Trains one epoch and returns the peak in MiB and the rows per second."""
    task = build_task(
        {
            "name": "classification_task",
            "num_epochs": 1,
            "dataset": {"train": {"name": "digits", "split": "train", "batchsize_per_replica": 1, "use_shuffle": True}},
            "model": {"name": "mlp", "input_dim": 64, "output_dim": 2, "hidden_dims": [8]},
            "loss": {"name": "CrossEntropyLoss"},
            "optimizer": {"name": "sgd", "lr": 0.01},
        }
    )
    task.set_dataset(ClassyDataset(RowDataset(rows, decode), BATCH, True), "train")
    task.set_hooks([Peak(f"{folder}/peak")])
    result = RayTrainer(ScalingConfig(num_workers=2), storage_path=folder, name="run").train(task)
    seconds = json.loads((Path(result.path) / "metrics.jsonl").read_text().splitlines()[0])["seconds"]
    return float(Path(f"{folder}/peak").read_text()) / 2**20, len(rows) / seconds


def main() -> None:
    """Prints a line per kind and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, nargs="+", default=[80, 800])
    sizes = parser.parse_args().mebibytes
    print(f"{'rows in':>10}  {'dataset':>10}  {'shared memory, at most':>22}  {'rows/s':>7}")
    with tempfile.TemporaryDirectory() as above:
        os.environ["RAY_CLASSY_CACHE"] = os.path.join(above, "cache")
        ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        for kind, make in (("Parquet", parquet), ("files", files)):
            for size in sizes:
                folder = os.path.join(above, f"{kind}-{size}-{time.time_ns()}")
                os.mkdir(folder)
                peak, rate = trained(make(folder, size * (1 << 20) // ROW_BYTES), folder)
                print(f"{kind:>10}  {size:>6} MiB  {peak:>18.1f} MiB  {rate:>7.0f}", flush=True)
        ray.shutdown()


if __name__ == "__main__":
    main()
