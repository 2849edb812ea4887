"""The task that makes one batch, on any CPU of the cluster."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import ray
import torch

from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.dataset.seeded_rows import Batch, SeededRows
from ray_classy.generic.util import map_tensors
from ray_classy.user_code import Search

_TRIES = 3
_MOST_SOURCES = 8
_sources: OrderedDict[str, Any] = OrderedDict()
"""The datasets that this process has received, by the ids of their objects: those used last."""


@dataclass(frozen=True)
class Source:
    """A dataset, and what a process needs to read it.

    Attributes:
        dataset: a reference to it.
        search: where the worker finds the user's modules.
        cwd: the worker's working directory.
    """

    dataset: ray.ObjectRef
    search: Search
    cwd: str


class Made(NamedTuple):
    """A batch from a task.

    Attributes:
        batch: the batch.
        seconds: that it took.
    """

    batch: Batch
    seconds: float


class Shipped:
    """A tensor on its way: Ray hands its memory over as it is, and it is copied once where it is received."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        if self._tensor.dtype == torch.bfloat16:  # NumPy has no such type
            return torch.Tensor.view, (Shipped(self._tensor.view(torch.int16)), torch.bfloat16)
        return _received, (np.ascontiguousarray(self._tensor.numpy()),)


def _received(array: np.ndarray) -> torch.Tensor:
    """Copies an array in shared memory, which must not be written to; into pinned memory if there is a GPU."""
    if not torch.cuda.is_initialized():
        return torch.from_numpy(array.copy())
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    tensor = torch.empty(array.shape, dtype=dtype, pin_memory=True)
    tensor.numpy()[...] = array
    return tensor


@ray.remote(num_cpus=0)
def ready() -> None:
    """Does nothing, in a process that has imported this module."""


@ray.remote(num_cpus=1, max_retries=_TRIES)  # it is repeated elsewhere if its node or process is lost
def make_batch(source: Source, plan: PhasePlan, numbers: np.ndarray) -> Made:
    """Makes the batch of these rows.

    Args:
        source: the dataset.
        plan: the phase.
        numbers: row numbers.
    """
    began = time.perf_counter()
    rows = SeededRows(_dataset(source), plan)
    batch = rows.collate(rows.__getitems__(numbers.tolist()))
    return Made(batch._replace(sample=map_tensors(batch.sample, Shipped)), time.perf_counter() - began)


def _dataset(source: Source) -> Any:
    key = source.dataset.hex()
    if key not in _sources:
        torch.set_num_threads(1)
        if os.path.isdir(source.cwd):
            os.chdir(source.cwd)  # so that a relative path has the meaning that it has for the worker
        source.search.extend()
        dataset = ray.get(source.dataset)
        base = row_dataset_of(dataset)
        if base is not None:
            base.threads = 0
            base.cache_decoded(False)
        _sources[key] = dataset
        while len(_sources) > _MOST_SOURCES:
            _sources.popitem(last=False)
    _sources.move_to_end(key)
    return _sources[key]
