"""Caches small datasets in memory: their decoded rows and, where nothing random happens on the host, whole columns."""

from __future__ import annotations

import hashlib
import itertools
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ray_classy.dataset.row_dataset import CACHE_BYTES, RowDataset, row_dataset_of
from ray_classy.dataset.seeded_rows import Batch, Row, SeededRows
from ray_classy.dataset.transforms.traits import is_deterministic

if TYPE_CHECKING:
    from ray_classy.dataset.plan import PhasePlan

_shared: OrderedDict[bytes, Columns] = OrderedDict()


class Columns:
    """The samples of a dataset as one tensor per entry, filled when a row is first read.

    Args:
        length: rows of the dataset.

    Attributes:
        needs_batched: whether the batched transforms are still to be applied to the samples.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._present = np.zeros(length, dtype=bool)
        self._tensors: dict[str, torch.Tensor] = {}
        self.needs_batched = False

    @property
    def bytes(self) -> int:
        """Size of the tensors."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def missing(self, numbers: np.ndarray, plan: PhasePlan) -> np.ndarray:
        """Returns those of a batch's numbers whose rows are not cached yet."""
        return numbers[~self._present[plan.rows_of(numbers)]]

    def put(self, rows: list[Row], batch: Batch, plan: PhasePlan) -> bool:
        """Adds rows; returns False if they differ in form, or from earlier ones, or if all rows would be too large.

        Args:
            rows: at least one.
            batch: the rows, collated.
            plan: of the phase.
        """
        values = batch.sample
        if not _are_tensors(values) or not _of_one_form([row.sample for row in rows]):
            return False
        if not self._tensors:
            if self._length * sum(value.nbytes for value in values.values()) > CACHE_BYTES * len(rows):
                return False
            self._tensors = {name: value.new_empty((self._length, *value.shape[1:])) for name, value in values.items()}
            self.needs_batched = batch.numbers is not None
        if (
            self.needs_batched is not (batch.numbers is not None)
            or values.keys() != self._tensors.keys()
            or any(
                value.shape[1:] != self._tensors[name].shape[1:] or value.dtype != self._tensors[name].dtype
                for name, value in values.items()
            )
        ):
            return False
        numbers = plan.rows_of(np.array([row.number for row in rows]))
        for name, value in values.items():
            _bytes(self._tensors[name])[numbers] = _bytes(value)
        self._present[numbers] = True
        return True

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Returns a batch of cached rows, equal to the collation of their samples."""
        index = torch.from_numpy(rows)
        return {name: tensor.index_select(0, index) for name, tensor in self._tensors.items()}


def _are_tensors(batch: Any) -> bool:
    return type(batch) is dict and all(
        type(value) is torch.Tensor and value.layout is torch.strided and not value.requires_grad
        for value in batch.values()
    )


def _of_one_form(samples: list[dict[str, Any]]) -> bool:
    """Whether samples have the same entries of the same types; collation converts them to the type of some."""
    first = samples[0]
    return all(len(sample) == len(first) for sample in samples) and all(
        len({(type(sample[name]), getattr(sample[name], "dtype", None)) for sample in samples}) == 1 for name in first
    )


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    """Returns the bytes of each row of a tensor, which NumPy copies many times as fast as torch."""
    rows = tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]
    return rows.view(torch.uint8).numpy()


def cached_batches(rows: SeededRows, plan: PhasePlan) -> Iterator[Batch]:
    """Yields the batches of a plan from memory, up to the first row that cannot be cached; none if none can."""
    base = row_dataset_of(rows.dataset)
    columns = None if base is None else _columns_of(rows, base)
    if base is None or columns is None:
        return
    lasting = is_deterministic(rows.dataset.transform)  # otherwise, batched transforms have to follow
    wanted, again = itertools.tee(plan.batches())
    for numbers, read in zip(wanted, rows.read(columns.missing(batch, plan) for batch in again), strict=True):
        good = [row for row in read if isinstance(row, Row)]
        assert len(good) == len(read)  # max_bad_rows is 0: a bad row has raised an error
        batch = rows.collate(read)
        if good and not ((lasting or batch.numbers is not None) and columns.put(good, batch, plan)):
            rows.dataset._cache = _Cache(rows.dataset.transform, base.rows, None)
            base.cache_decoded(True)
            return
        if len(good) < len(numbers):
            cached = columns.batch(plan.rows_of(numbers))
            batch = Batch(cached, len(numbers), [], numbers if columns.needs_batched else None)
        yield batch


def is_cached(dataset: Any) -> bool:
    """Whether batches of a dataset come from memory in later epochs, or at once."""
    cache = dataset.__dict__.get("_cache")
    return cache is not None and cache.columns is not None


class _Cache(NamedTuple):
    """The cache of a dataset object, valid while its transform and rows are the same; no columns: not cacheable."""

    transform: Any
    rows: Any
    columns: Columns | None


def _columns_of(rows: SeededRows, base: RowDataset) -> Columns | None:
    dataset, placement = rows.dataset, rows.placement
    if base.max_bad_rows or not base.cacheable or placement is None or not is_deterministic(placement.host):
        return None
    cache = dataset.__dict__.get("_cache")
    if cache is None or cache.transform is not dataset.transform or cache.rows is not base.rows:
        columns = _shared_columns(dataset, base) or Columns(len(dataset))
        cache = dataset._cache = _Cache(dataset.transform, base.rows, columns)
        base.cache_decoded(False)  # the columns have them
    return cache.columns


def _shared_columns(dataset: Any, base: RowDataset) -> Columns | None:
    """Returns the columns that all datasets of the same content share in this process."""
    key = _content(dataset, base)
    if key is None:
        return None
    columns = _shared.setdefault(key, Columns(len(dataset)))
    _shared.move_to_end(key)
    while len(_shared) > 1 and sum(one.bytes for one in _shared.values()) > CACHE_BYTES:
        _shared.popitem(last=False)
    return columns


def _content(dataset: Any, base: RowDataset) -> bytes | None:
    """Returns what the samples depend on; None if other samples might depend on the same."""
    identity = base.rows.identity()
    if identity is None:
        return None
    try:
        selected = None if base.selection is None else hashlib.sha256(base.selection.tobytes()).digest()
        parts = [identity, selected, base.decode, base.target_map, dataset.transform, len(dataset)]
        return pickle.dumps([type(dataset), *parts])
    except Exception:  # a part that does not pickle: the columns are cached for this object alone
        return None
