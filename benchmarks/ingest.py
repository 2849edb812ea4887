"""Measures rows per second from files or memory to float batches, against torch's DataLoader over the same rows.

    python benchmarks/ingest.py [--rows 2000] [--rounds 5] [--quick]

Two cases: JPEGs of about 400 x 300 pixels to random crops of 224 pixels, flipped and normalised; and 50,000 in-memory
rows of 32 x 32 bytes, flipped and normalised, which ray_classy caches in the first epoch: as tensors, and as PIL images
that each row is made to (as torchvision's CIFAR10 does). The loaders run in turn, several times; rates are medians. The
loaders of ray_classy deliver complete batches, including the batched transforms of the training device (here the CPU).
The time of the first batch starts with the call of `iter`, before the loader's processes or threads are started.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from ray_classy.dataset import ClassyDataset, build_dataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.transforms import build_transforms

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FLIP, NORMALIZE = {"name": "RandomHorizontalFlip"}, {"name": "Normalize", "mean": MEAN, "std": STD}
CPUS = len(os.sched_getaffinity(0))


def write_pictures(folder: str, count: int) -> list[str]:
    """Writes smooth noise with some grain as JPEGs of about 33 kB, the size of a photograph's."""
    inside = Path(folder, "class")
    inside.mkdir()
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        width, height = int(random.integers(360, 440)), int(random.integers(270, 330))
        scales = [
            Image.fromarray(random.integers(0, 256, (height // part, width // part, 3), dtype=np.uint8))
            for part in (16, 3)
        ]
        coarse, fine = (np.asarray(one.resize((width, height), Image.Resampling.BICUBIC), float) for one in scales)
        pixels = 0.8 * coarse + 0.15 * fine + random.normal(0, 4, coarse.shape)
        path = str(inside / f"{number:06}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=88)
        paths.append(path)
    return paths


class Files(torch.utils.data.Dataset):
    """A map-style dataset that opens and transforms image files, as a user would write it."""

    def __init__(self, paths: list[str], opened: Callable[[str], Any], transform: Callable[[Any], Any]) -> None:
        self.paths, self.opened, self.transform = paths, opened, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.opened(self.paths[index])), 0


def open_pil(path: str) -> Any:
    """Opens an image as `torchvision.datasets.ImageFolder` does."""
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


def open_tensor(path: str) -> torch.Tensor:
    """Opens an image with torchvision's decoder."""
    with open(path, "rb") as file:
        return decode_jpeg(torch.frombuffer(bytearray(file.read()), dtype=torch.uint8), mode=ImageReadMode.RGB)


class Memory(torch.utils.data.Dataset):
    """A map-style dataset over images and labels, with an optional transform of single rows."""

    def __init__(self, images: Any, labels: torch.Tensor, transform: Callable[[Any], Any] | None) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        return image if self.transform is None else self.transform(image), self.labels[index]


def normalised(batches: Iterable[Any]) -> Iterator[Any]:
    """Flips batches of bytes row by row and normalises them as a whole, as a user would write it."""
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, STD))
    for images, labels in batches:
        flipped = torch.rand(len(images)) < 0.5
        images[flipped] = images[flipped].flip(-1)
        yield images.float().div_(255).sub_(mean).div_(std), labels


def usual_pictures(paths: list[str], batch: int) -> Any:
    """A DataLoader with PIL, transforms of PIL images, and one process per core."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(Files(paths, open_pil, transform), batch, shuffle=True, num_workers=CPUS)


def best_pictures(paths: list[str], batch: int) -> Any:
    """A DataLoader with torchvision's decoder, transforms of tensors, and one process per core."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(Files(paths, open_tensor, transform), batch, shuffle=True, num_workers=CPUS)


def our_pictures(folder: str, batch: int, tensors: bool = False) -> ClassyDataset:
    """The dataset `image_path` as a config builds it; with `ToImage` first it crops tensors instead of PIL images."""
    crop = {"name": "RandomResizedCrop", "size": 224}
    to_float = [{"name": "ToDtype", "dtype": "float32", "scale": True}] if tensors else [{"name": "ToTensor"}]
    first = [{"name": "ToImage"}, crop] if tensors else [crop]
    return build_dataset(
        {
            "name": "image_path",
            "image_folder": folder,
            "batchsize_per_replica": batch,
            "use_shuffle": True,
            "transforms": _on_input([*first, FLIP, *to_float, NORMALIZE]),
        }
    )


def _on_input(transforms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": "apply_transform_to_key", "key": "input", "transforms": transforms}]


def _pil_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"input": Image.fromarray(row["image"]), "target": int(row["label"])}


def _tensor_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"input": torch.from_numpy(row["image"]), "target": int(row["label"])}


def our_memory(images: np.ndarray, labels: np.ndarray, batch: int) -> ClassyDataset:
    """The in-memory dataset of ray_classy over bytes of shape (rows, height, width, channels), by way of PIL images."""
    transforms = build_transforms(_on_input([FLIP, {"name": "ToTensor"}, NORMALIZE]))
    return ClassyDataset(RowDataset(ItemRows(image=images, label=labels), _pil_row), batch, True, transforms)


def our_tensors(images: torch.Tensor, labels: torch.Tensor, batch: int) -> ClassyDataset:
    """The in-memory dataset of ray_classy over bytes of shape (rows, channels, height, width)."""
    transforms = build_transforms(_on_input([FLIP, {"name": "ToDtype", "dtype": "float32", "scale": True}, NORMALIZE]))
    rows = ItemRows(image=images.numpy(), label=labels.numpy())
    return ClassyDataset(RowDataset(rows, _tensor_row), batch, True, transforms)


class Phases:
    """Iterates over consecutive train phases of a ray_classy dataset."""

    def __init__(self, dataset: ClassyDataset, workers: int = 0) -> None:
        self.dataset, self.workers, self.phase = dataset, workers, -1

    def __iter__(self) -> Iterator[Any]:
        self.phase += 1
        return iter(self.dataset.iterator(phase_type="train", current_phase_id=self.phase, num_workers=self.workers))


class Pass(NamedTuple):
    """One pass over a loader: rows per second, seconds to the first batch, and seconds of CPU per row."""

    rate: float
    first: float
    cpu: float


def timed(batches: Iterable[Any]) -> Pass:
    """Measures one pass. The CPU time of loading processes is included once they have ended."""
    rows, first = 0, 0.0
    cpu, began = sum(os.times()[:4]), time.perf_counter()
    for batch in batches:
        rows += len(batch["target"] if isinstance(batch, dict) else batch[1])
        first = first or time.perf_counter() - began
    rate = rows / (time.perf_counter() - began)
    return Pass(rate, first, (sum(os.times()[:4]) - cpu) / rows)


def compare(title: str, loaders: dict[str, Any], rounds: int) -> None:
    """Prints the rate of each loader, and its ratio to the loaders whose names begin with "ours"."""
    measured: dict[str, list[Pass]] = {name: [] for name in loaders}
    for _ in range(rounds):
        for name, loader in loaders.items():
            measured[name].append(timed(loader))
    ours = [name for name in loaders if name.startswith("ours")]
    head = "".join(f"{f'[{number + 1}] / it':>10}" for number in range(len(ours)))
    print(f"{title}\n{'':48}{'rows/s':>9}{head}{'CPU us/row':>12}{'first batch':>13}")
    for name, passes in measured.items():
        label = f"[{ours.index(name) + 1}] {name}" if name in ours else name
        rate, first, cpu = (statistics.median(numbers) for numbers in zip(*passes, strict=True))
        ratios = [
            statistics.median(our.rate / its.rate for our, its in zip(measured[one], passes, strict=True))
            for one in ours
        ]
        shown = "".join(f"{ratio:10.2f}" for ratio in ratios)
        print(f"{label:48}{rate:9,.0f}{shown}{cpu * 1e6:12,.0f}{first:11.3f} s")


def compare_pictures(rows: int, batch: int, rounds: int) -> None:
    """Prints the table of JPEGs."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(folder, rows)
        loaders = {
            "ours, PIL transforms": Phases(our_pictures(folder, batch)),
            "ours, ToImage first": Phases(our_pictures(folder, batch, tensors=True)),
            f"ours, PIL transforms, {CPUS} processes": Phases(our_pictures(folder, batch), CPUS),
            f"DataLoader, PIL, {CPUS} processes": usual_pictures(paths, batch),
            f"DataLoader, decode_jpeg, tensors, {CPUS} processes": best_pictures(paths, batch),
        }
        compare(f"{rows} JPEGs of about 400 x 300 to crops of 224, {CPUS} CPUs", loaders, rounds)


def compare_memory(rows: int, rounds: int) -> None:
    """Prints the table of rows in memory."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, rows)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)
    steps = [v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    each = v2.Compose(steps)
    pil = v2.Compose([Image.fromarray, v2.PILToTensor(), *steps])
    loader = partial(DataLoader, batch_size=256, shuffle=True)
    loaders = {
        "ours, first epoch": _Again(lambda: iter(Phases(our_tensors(*tensors, 256)))),
        "ours, first epoch, PIL images": _Again(lambda: iter(Phases(our_memory(images, labels, 256)))),
        "ours, later epochs": Phases(our_memory(images, labels, 256)),
        "DataLoader, bytes; batches by hand": _Again(partial(normalised, loader(Memory(*tensors, None)))),
        "the same, 2 processes": _Again(partial(normalised, loader(Memory(*tensors, None), num_workers=2))),
        "DataLoader, transforms per row": loader(Memory(*tensors, each)),
        "the same, 2 processes ": loader(Memory(*tensors, each), num_workers=2),
        "DataLoader, PIL images, transforms per row": loader(Memory(images, tensors[1], pil)),
    }
    timed(loaders["ours, later epochs"])
    compare(f"{rows} rows of 32 x 32 in memory", loaders, rounds)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="JPEGs")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rows, to check that it runs")
    arguments = parser.parse_args()
    rows, small, rounds = (200, 5000, 2) if arguments.quick else (arguments.rows, 50_000, arguments.rounds)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    compare_pictures(rows, arguments.batch, rounds)
    print()
    compare_memory(small, rounds)


class _Again:
    """An iterable that can be iterated over several times."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self.begin = begin

    def __iter__(self) -> Iterator[Any]:
        return self.begin()


if __name__ == "__main__":
    main()
