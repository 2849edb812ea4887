"""Measures images per second of `predict` from JPEGs to a file, against a hand-written loop over torch's DataLoader.

    python benchmarks/predict.py [--images 2048] [--batch 64] [--model mobilenet_v3_small] [--rounds 3] [--workers 2]

JPEGs of about 400 x 300 pixels are resized, cropped to 224 pixels and normalised, by the same transforms in all cases,
and classified by the same network with random weights, on a GPU if there is one. All write a CSV file with the five
best classes of each image. The baseline is the faster of a DataLoader with one process per CPU and one without any. The
cases run in turn, several times, in the other order every second time; figures are medians. Where other processes share
the CPUs, compare the CPU time. With `--workers`, `predict` runs on so many Ray workers as well; its time includes the
start of a local Ray.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ray_classy import load_model
from ray_classy.inference.predict import predict_files
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ingest import CPUS, MEAN, STD, Files, write_pictures

TRANSFORMS = [
    {"name": "Resize", "size": 256},
    {"name": "CenterCrop", "size": 224},
    {"name": "ToTensor"},
    {"name": "Normalize", "mean": MEAN, "std": STD},
]


def trained(folder: str, network: str) -> str:
    """Trains a network on twenty images, and returns the path of its run."""
    data = {
        "name": "image_path",
        "image_folder": folder,
        "num_samples": 20,
        "batchsize_per_replica": 10,
        "transforms": [{"name": "apply_transform_to_key", "transforms": TRANSFORMS, "key": "input"}],
    }
    config = {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {"train": data, "test": data},
        "loss": {"name": "CrossEntropyLoss"},
        "model": {"name": "torchvision", "model": network},
        "optimizer": {"name": "sgd", "lr": 0.001},
    }
    return LocalTrainer(storage_path=os.path.join(folder, "runs")).train(build_task(config)).path


def in_ten_classes(paths: list[str]) -> list[str]:
    """Moves images to ten folders beside their own, and returns their new paths."""
    moved = []
    for number, path in enumerate(paths):
        folder = Path(path).parents[1] / f"class_{number % 10}"
        folder.mkdir(exist_ok=True)
        moved.append(str(Path(path).rename(folder / Path(path).name)))
    Path(paths[0]).parent.rmdir()
    return moved


def opened(path: str) -> Any:
    """Opens an image, as a user would write it."""
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def by_hand(model: Any, paths: list[str], batch: int, processes: int, output: str) -> None:
    """Predicts images with a DataLoader, and writes their five best classes."""
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    on_gpu = model.device.type == "cuda"
    loader = DataLoader(Files(paths, opened, transform), batch, num_workers=processes, pin_memory=on_gpu)
    number = 0
    with torch.inference_mode(), open(output, "w", newline="") as file:
        rows = csv.writer(file)
        for images, _ in loader:
            scores, classes = model.model(images.to(model.device, non_blocking=True)).softmax(1).topk(5)
            for row in zip(scores.tolist(), classes.tolist(), strict=True):
                rows.writerow([paths[number], *row])
                number += 1


def measured(images: int, run: Any) -> tuple[float, float]:
    """Returns the images per second of a call, and milliseconds of CPU per image of this process and its children."""
    cpu, began = sum(os.times()[:4]), time.perf_counter()
    run()
    return images / (time.perf_counter() - began), 1000 * (sum(os.times()[:4]) - cpu) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--model", default="mobilenet_v3_small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = in_ten_classes(write_pictures(folder, given.images))
        model = load_model(trained(folder, given.model))
        files = (str(Path(folder, f"{number}.csv")) for number in range(10_000))

        def ours(workers: int = 0) -> None:
            predict_files(model, paths, next(files), topk=5, batch_size=given.batch, num_workers=workers)

        cases: dict[str, Any] = {"predict, one process": ours}
        for processes in (0, CPUS):
            name = f"DataLoader, {processes} processes"
            cases[name] = lambda processes=processes: by_hand(model, paths, given.batch, processes, next(files))
        if given.workers:
            cases[f"predict, {given.workers} Ray workers"] = lambda: ours(given.workers)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for turn in range(given.rounds):
            for name in list(cases)[:: -1 if turn % 2 else 1]:
                found[name].append(measured(given.images, cases[name]))
    best = max(statistics.median(one[0] for one in found[name]) for name in found if name.startswith("DataLoader"))
    print(f"{given.images} JPEGs, {given.model}, batches of {given.batch}, {model.device}, {CPUS} CPUs")
    for name, values in found.items():
        rates = [one[0] for one in values]
        middle, spread = statistics.median(rates), f"({min(rates):.0f} to {max(rates):.0f})"
        cpu = f"{statistics.median(one[1] for one in values):.1f} ms" if "Ray" not in name else "-"
        print(f"{name:<26} {middle:>7.0f} images/s {spread:<14} {middle / best:.2f} x the best DataLoader, CPU {cpu}")


if __name__ == "__main__":
    main()
