"""Small datasets are held in memory: their rows decoded and, where nothing is drawn on the host, ready for batches."""

from __future__ import annotations

import itertools
import os
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ray_classy.dataset.rows import KEPT_BYTES, ParquetRows, RowDataset
from ray_classy.dataset.seeded_rows import Batch, Row, SeededRows
from ray_classy.dataset.transforms.draws import draws

if TYPE_CHECKING:
    from ray_classy.dataset.plan import PhasePlan

_shared: OrderedDict[bytes, Columns] = OrderedDict()


class Columns:
    """The samples of a dataset as one tensor per entry, filled row by row as they are first asked for.

    Args:
        length: rows of the dataset.

    Attributes:
        waits: whether the tail of the transform is still to be applied to them.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._have = np.zeros(length, dtype=bool)
        self._tensors: dict[str, torch.Tensor] = {}
        self.waits = False

    @property
    def bytes(self) -> int:
        """What they take."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Which of these rows are not there yet."""
        return rows[~self._have[rows]]

    def put(self, row: Row) -> bool:
        """Adds a row; False if it is not like the others, or too large for all to be kept."""
        if not isinstance(row.sample, dict):
            return False
        values = {name: _tensor(value) for name, value in row.sample.items()}
        if any(value is None for value in values.values()):
            return False
        if not self._tensors:
            if self._length * sum(value.nbytes for value in values.values()) > KEPT_BYTES:
                return False
            self._tensors = {name: value.new_empty((self._length, *value.shape)) for name, value in values.items()}
            self.waits = row.waits
        if (
            row.waits is not self.waits
            or values.keys() != self._tensors.keys()
            or any(
                value.shape != self._tensors[name].shape[1:] or value.dtype != self._tensors[name].dtype
                for name, value in values.items()
            )
        ):
            return False
        for name, value in values.items():
            self._tensors[name][row.number] = value
        self._have[row.number] = True
        return True

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """A batch of rows that are all there: what the usual collation makes of their samples."""
        index = torch.from_numpy(rows)
        return {name: tensor.index_select(0, index) for name, tensor in self._tensors.items()}


def _tensor(value: Any) -> Any:
    """The value as the tensor that the usual collation makes of it; None if it makes none."""
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor)
    if isinstance(value, bool | int):
        return torch.tensor(value)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    return None


def kept_batches(rows: SeededRows, plan: PhasePlan) -> Iterator[Batch]:
    """The batches of a plan from memory, up to the first row that cannot be kept; none if none can."""
    columns = _columns_of(rows)
    if columns is None:
        return
    wanted, again = itertools.tee(plan.batches())
    for numbers, read in zip(wanted, rows.read(columns.missing(batch) for batch in again), strict=True):
        for row in read:
            assert isinstance(row, Row)  # no row may be bad
            if not columns.put(row):
                rows.dataset._kept = _Kept(rows.dataset.transform, rows.base.rows, None)
                rows.base.hold_decoded(True)
                return
        yield Batch(columns.batch(numbers), len(numbers), [], numbers if columns.waits else None)


class _Kept(NamedTuple):
    """What is kept of a dataset object, as long as it is made of the same parts; None: it cannot be kept."""

    transform: Any
    rows: Any
    columns: Columns | None


def _columns_of(rows: SeededRows) -> Columns | None:
    dataset, base = rows.dataset, rows.base
    if not isinstance(base, RowDataset) or base.max_bad_rows or rows.split is None or draws(rows.split.host):
        return None
    kept = dataset.__dict__.get("_kept")
    if kept is None or kept.transform is not dataset.transform or kept.rows is not base.rows:
        kept = dataset._kept = _Kept(dataset.transform, base.rows, _known(dataset, base) or Columns(len(dataset)))
        base.hold_decoded(False)  # they are held in the columns
    return kept.columns


def _known(dataset: Any, base: RowDataset) -> Columns | None:
    """The columns of all datasets in this process that have the same content."""
    key = _content(dataset, base)
    if key is None:
        return None
    columns = _shared.setdefault(key, Columns(len(dataset)))
    _shared.move_to_end(key)
    while len(_shared) > 1 and sum(one.bytes for one in _shared.values()) > KEPT_BYTES:
        _shared.popitem(last=False)
    return columns


def _content(dataset: Any, base: RowDataset) -> bytes | None:
    """What the samples depend on; None if that is not only files that can be told apart."""
    rows = base.rows
    if not isinstance(rows, ParquetRows):
        return None
    try:
        files = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in rows.files]
        return pickle.dumps([type(dataset), files, rows.columns, base.decode, dataset.transform, len(dataset)])
    except Exception:  # a file that is not here, a transform that does not pickle: kept for this object alone
        return None
