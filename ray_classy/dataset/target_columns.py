"""The targets of all rows, where they are more than one class per row: several labels, or several targets."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ray_classy.dataset.class_match import mapped

UNLABELLED = -100
"""The target of a row, or the entry of a class in it, that is not known: what losses ignore by default."""
_WHOLE_ROW = np.iinfo(np.int32).min


@dataclass(frozen=True)
class IndexColumn:
    """One class per row.

    Attributes:
        targets: class indices, int64, shape (rows,); `UNLABELLED` where a row has none.
        classes: names in the order of the indices; None if the labels are integers without names.
    """

    targets: np.ndarray
    classes: list[str] | None

    def of_row(self, row: int) -> int:
        """Returns the target of a row."""
        return int(self.targets[row])

    @property
    def num_classes(self) -> int:
        """The number of classes; without names, up to the largest index."""
        return len(self.classes) if self.classes is not None else int(self.targets.max(initial=-1)) + 1

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many rows have each class, and how many have one at all, each of shape (classes,)."""
        known = self.targets[self.targets >= 0]
        return np.bincount(known, minlength=self.num_classes), np.full(self.num_classes, len(known))

    def mapped(self, by_target: Mapping[int, int], classes: list[str] | None) -> IndexColumn:
        """Returns the column with its classes numbered otherwise; see `ClassyDataset.map_targets`."""
        return IndexColumn(mapped(self.targets, by_target), classes)

    def selected(self, rows: np.ndarray) -> IndexColumn:
        """Returns the column of some rows."""
        return replace(self, targets=self.targets[rows])

    def fingerprint(self) -> int:
        """Returns a checksum of the targets."""
        return zlib.crc32(self.targets.tobytes())


@dataclass(frozen=True)
class MultiHotColumn:
    """Any number of classes per row, also none; kept as lists, which take a fraction of the memory of a matrix.

    Attributes:
        offsets: where the codes of each row begin, int64, shape (rows + 1,).
        codes: int32: the classes of the rows, c; the classes that are not known, -1 - c; or the smallest integer for a
            row of which none is known.
        classes: names in the order of their indices.
    """

    offsets: np.ndarray
    codes: np.ndarray
    classes: list[str]

    def of_row(self, row: int) -> torch.Tensor:
        """Returns the target of a row, float32 of shape (classes,): 1, 0, or `UNLABELLED` where it is not known."""
        codes = self.codes[self.offsets[row] : self.offsets[row + 1]]
        target = np.zeros(len(self.classes), np.float32)
        if len(codes) and codes.min() < 0:
            target[:] = UNLABELLED if codes[0] == _WHOLE_ROW else 0
            target[-1 - codes[(codes < 0) & (codes != _WHOLE_ROW)]] = UNLABELLED
            codes = codes[codes >= 0]
        target[codes] = 1
        return torch.from_numpy(target)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def rows_without_a_class(self) -> int:
        """The number of rows whose target is known, and is 0 for all classes."""
        positive = np.add.reduceat(np.append(self.codes >= 0, False), self.offsets[:-1], dtype=np.int64)
        whole = np.append(self.codes == _WHOLE_ROW, False)[self.offsets[:-1]]
        empty = np.diff(self.offsets) == 0
        return int((empty | ((positive == 0) & ~whole)).sum())

    @property
    def rows_unlabelled(self) -> int:
        """The number of rows of which no class is known."""
        return int((self.codes == _WHOLE_ROW).sum())

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many rows have each class, and of how many it is known, each of shape (classes,)."""
        number = len(self.classes)
        unknown = self.codes[(self.codes < 0) & (self.codes != _WHOLE_ROW)]
        known = len(self.offsets) - 1 - self.rows_unlabelled - np.bincount(-1 - unknown, minlength=number)
        return np.bincount(self.codes[self.codes >= 0], minlength=number), known

    def mapped(self, by_target: Mapping[int, int], classes: list[str] | None) -> MultiHotColumn:
        """Returns the column with its classes numbered otherwise; see `ClassyDataset.map_targets`."""
        assert classes is not None
        unknown = (self.codes < 0) & (self.codes != _WHOLE_ROW)
        moved = mapped(np.where(unknown, -1 - self.codes, self.codes).astype(np.int64), by_target)
        codes = np.where(self.codes == _WHOLE_ROW, _WHOLE_ROW, np.where(unknown, -1 - moved, moved))
        return replace(self, codes=codes.astype(np.int32), classes=classes)

    def selected(self, rows: np.ndarray) -> MultiHotColumn:
        """Returns the column of some rows."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return replace(self, offsets=offsets, codes=self.codes[places])

    def fingerprint(self) -> int:
        """Returns a checksum of the targets."""
        return zlib.crc32(self.codes.tobytes(), zlib.crc32(self.offsets.astype(np.int64).tobytes()))


TargetColumn = IndexColumn | MultiHotColumn

ONLY = ""
"""The name of the target of a dataset whose samples have just one."""


class TargetDecoder:
    """Decodes rows whose targets are known by their numbers.

    Args:
        decode: makes a sample of a raw row, without a target.
        columns: the targets by name. That of `ONLY` is the sample's target itself; others make a dict of targets.

    Attributes:
        own: the columns as they were read.
        columns: the columns as samples have them.
    """

    def __init__(self, decode: Callable[[dict[str, Any]], dict[str, Any]], columns: Mapping[str, TargetColumn]) -> None:
        self._decode = decode
        self.own = dict(columns)
        self.columns = dict(columns)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number, sample = row["row"], self._decode(row)
        targets = {name: column.of_row(number) for name, column in self.columns.items()}
        sample["target"] = targets.get(ONLY, targets)
        return sample

    def map_targets(self, name: str, by_target: Mapping[int, int], classes: list[str] | None) -> None:
        """Numbers the classes of a target otherwise."""
        self.columns[name] = self.own[name].mapped(by_target, classes)
