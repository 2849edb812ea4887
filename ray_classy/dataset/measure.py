"""Measures how fast the rows of a dataset reach the training, step by step."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from ray_classy.dataset.classy_dataset import ClassyDataset
from ray_classy.dataset.cpus import cpus_of_this_process
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.dataset.seeded_rows import SeededRows
from ray_classy.dataset.transforms.thread_generator import ThreadGenerator
from ray_classy.errors import DataError
from ray_classy.seeding import derive_seed, seed_host
from ray_classy.urls import read_bytes

_LEAST_SECONDS = 1.0


class Speeds(NamedTuple):
    """Rows per second.

    Attributes:
        steps: of one thread in each step of a row's way, in their order; "batches" are the batched transforms.
        feed: in batches on the device, all steps together, by all threads or processes.
        first_batch: seconds until the first batch is on the device.
        dataloader: of torch's DataLoader over the same rows and transforms, with a process on each CPU.
    """

    steps: dict[str, float]
    feed: float
    first_batch: float
    dataloader: float


def measure(dataset: ClassyDataset, phase_type: str, rows: int, device: torch.device) -> Speeds:
    """Measures the speed of each step, of all steps together, and of torch's DataLoader.

    Rows are not cached in memory from one measurement to the next; the system's file cache keeps its content.

    Args:
        dataset: the dataset of a phase.
        phase_type: "train" or "test".
        rows: how many rows to read, and at least one batch.
        device: the training device.
    """
    plan = dataset.plan(phase_type)
    batches = []
    for batch in plan.batches():
        batches.append(plan.rows_of(batch))
        if sum(map(len, batches)) >= rows:
            break
    steps = _steps(dataset, SeededRows(dataset, plan), np.concatenate(batches)[: max(1, rows // 4)].tolist(), device)
    first_batch, feed = measure_feed(dataset, phase_type, len(batches), device)
    return Speeds(steps, feed, first_batch, _dataloader(dataset, batches))


def _forget(dataset: ClassyDataset) -> None:
    """Empties the caches of decoded rows."""
    dataset.__dict__.pop("_cache", None)
    base = row_dataset_of(dataset)
    if base is not None:
        base.drop_fetched()
        base.cache_decoded(False)


def _steps(dataset: ClassyDataset, made: SeededRows, numbers: list[int], device: torch.device) -> dict[str, float]:
    _forget(dataset)
    base, placement = row_dataset_of(dataset), made.placement
    speeds: dict[str, float] = {}
    if base is not None:
        raw, seconds = _timed(lambda: base.take(numbers))
        again = 0.0
        if isinstance(raw[0].get("path"), str):  # decoding reads the files as well, which is taken off
            first, again = (_timed(lambda: [_quietly(read_bytes, row["path"]) for row in raw])[1] for _ in range(2))
            seconds += first
        speeds["source"] = len(numbers) / max(seconds, 1e-9)
        samples, both = _timed(lambda: [_quietly(base.decode, row) for row in raw])
        speeds["decode"] = len(numbers) / max(both - again, both / 10)
    else:
        samples, seconds = _timed(lambda: [dataset.dataset[number] for number in numbers])
        speeds["source"] = len(numbers) / max(seconds, 1e-9)
    host = dataset.transform if placement is None else placement.host
    good = [(number, sample) for number, sample in zip(numbers, samples, strict=True) if sample is not None]
    if host is not None:
        with ThreadGenerator() as generator:
            transformed, seconds = _timed(lambda: [_drawn(generator, host, number, sample) for number, sample in good])
        speeds["transforms"] = len(good) / max(seconds, 1e-9)
    else:
        transformed = [sample for _, sample in good]
    if placement is not None and placement.batched is not None:
        ready = made.packed([made.made_ready(one[0], sample) for one, sample in zip(good, transformed, strict=True)])
        size = dataset.get_batchsize_per_replica()
        packs = [made.collate(ready[at : at + size]) for at in range(0, len(ready), size)]
        batched, key = placement.batched, placement.key

        def transform_batches() -> None:
            for pack in packs:
                if pack.numbers is not None:
                    batched.batch(pack.sample[key].to(device), made.seed, made.epoch, pack.numbers)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        speeds["batches"] = len(ready) / max(_timed(transform_batches)[1], 1e-9)
    return speeds


def _quietly(function: Callable[[Any], Any], value: Any) -> Any:
    """Calls a function, and returns None for a row that cannot be read."""
    try:
        return function(value)
    except DataError:
        return None


def _drawn(generator: ThreadGenerator, host: Callable[[Any], Any], number: int, sample: Any) -> Any:
    generator.seed(derive_seed(0, 0, number))
    return host(sample)


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    answer = function()
    return answer, time.perf_counter() - began


def measure_feed(dataset: ClassyDataset, phase_type: str, batches: int, device: torch.device) -> tuple[float, float]:
    """Returns the seconds to the first batch, and the rows per second of all steps together.

    Args:
        dataset: the dataset of a phase; its `feed`, if it has one, makes the batches.
        phase_type: "train" or "test".
        batches: how many batches to read.
        device: the training device.
    """
    _forget(dataset)
    loader = dataset.iterator(phase_type=phase_type, pin_memory=device.type == "cuda")
    loader.device = device
    began = time.perf_counter()
    iterator: Any = iter(loader)
    count, first = 0, 0.0
    for number in range(batches):
        if next(iterator, None) is None:  # batches whose rows are all bad
            break
        count += iterator.share.rows
        first = first or time.perf_counter() - began
        if number and time.perf_counter() - began > 20 * _LEAST_SECONDS:
            break
    if not count:
        raise DataError(f"none of the rows of the {phase_type} dataset that are measured can be decoded")
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return first, count / max(time.perf_counter() - began, 1e-9)


def _dataloader(dataset: ClassyDataset, batches: list[np.ndarray]) -> float:
    """Returns the rows per second of torch's own DataLoader, once its processes run; bad rows count as read."""
    _forget(dataset)
    # The decoding threads of the measurements before may hold locks, which a fork of this process would never release.
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["ray_classy.dataset.measure"])
    loader = torch.utils.data.DataLoader(
        _Plain(dataset),
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=cpus_of_this_process(),
        collate_fn=_good_ones,
        multiprocessing_context=start,
    )
    began = time.perf_counter()
    iterator = iter(loader)
    next(iterator)
    if len(batches) == 1:  # for want of a second batch, the start of the processes counts
        return len(batches[0]) / max(time.perf_counter() - began, 1e-9)
    began, count = time.perf_counter(), 0
    for number, _ in enumerate(iterator, 1):
        count += len(batches[number])
    return count / max(time.perf_counter() - began, 1e-9)


class _Plain(torch.utils.data.Dataset):
    def __init__(self, dataset: ClassyDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        seed_host(derive_seed(0, 0, index))
        return _quietly(self.dataset.__getitem__, index)

    def __len__(self) -> int:
        return len(self.dataset)


def _good_ones(samples: list[Any]) -> Any:
    good = [sample for sample in samples if sample is not None]
    return torch.utils.data.default_collate(good) if good else None
