"""Divides the rows of one source between the train and the test phase, by a hash of their ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from ray_classy.errors import ComponentError, DataError
from ray_classy.seeding import derive_seed, mix64

if TYPE_CHECKING:
    from ray_classy.dataset.classy_dataset import ClassyDataset

_SIDES = 1
"""Separates the numbers that decide a row's side from those of the fingerprint."""
_SKETCHED = 1024

D = TypeVar("D", bound="ClassyDataset")


@dataclass(frozen=True)
class Split:
    """A rule that gives each row of a source to the train phase or to the test phase.

    A row's side is a hash of `seed` and of its id: of its path within the source, or of a column. The rows whose hash
    is below `test` of its range are test rows, a share that is exact in expectation, in each class too. As nothing else
    counts, a row keeps its side when files are added or removed, and when the whole folder is moved.

    With `stratify`, each class of at least two ids also has at least one on each side, and the only id of a class is
    trained on: where all hashes of a class are on one side, the id with the one nearest to the limit changes sides.
    Such an id alone can change sides again when files are added to its class.

    Args:
        test: share of test rows, in (0, 1).
        stratify: whether each class is on both sides.
        seed: another one gives another split; the seed of the run does not count.
        id: name of a column; all rows that have one value in it are on one side (the images of a patient, say). None
            takes the path of each row within the source.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    test: float
    stratify: bool = False
    seed: int = 0
    id: str | None = None

    def __post_init__(self) -> None:
        if type(self.test) not in (int, float) or not 0 < self.test < 1:
            raise ComponentError(f"test must be the share of test rows, above 0 and below 1, not {self.test!r}")
        if type(self.stratify) is not bool:
            raise ComponentError(f"stratify must be true or false, not {self.stratify!r}")
        if type(self.seed) is not int:
            raise ComponentError(f"seed must be an integer, not {self.seed!r}")
        if self.id is not None and (not isinstance(self.id, str) or not self.id):
            raise ComponentError(f"id must be the name of a column, or null for the paths of rows, not {self.id!r}")

    def test_rows(self, keys: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Returns which rows are test rows, shape (rows,), bool.

        Args:
            keys: of the rows, shape (rows,), uint64, see `ClassyDataset.row_keys`.
            labels: their classes, shape (rows,); `stratify` needs them.
        """
        numbers = mix64(keys + np.uint64(derive_seed(self.seed, _SIDES)))
        test = numbers < np.uint64(int(self.test * 2.0**64))
        if not self.stratify or not len(keys):
            return test
        if labels is None or labels.ndim != 1:
            raise DataError("split.stratify needs rows with one class each: leave it out for others")
        order = np.lexsort((numbers, labels))
        firsts = np.flatnonzero(np.diff(labels[order], prepend=labels[order[0]] - 1))
        first, last = order[firsts], order[np.append(firsts[1:], len(order)) - 1]
        into_test = first[~test[first] & (numbers[first] != numbers[last])]
        into_train = last[test[last]]
        test |= np.isin(numbers, numbers[into_test])
        test &= ~np.isin(numbers, numbers[into_train])
        return test

    def take(self, dataset: D, side: Literal["train", "test"]) -> D:
        """Leaves only the rows of one side in a dataset, and returns it.

        Both sides are taken from datasets of the same source, which may differ in their transforms:

            train = split.take(ImagePathDataset(32, True, augment, image_folder="pets"), "train")
            test = split.take(ImagePathDataset(32, False, resize, image_folder="pets"), "test")

        Raises:
            DataError: the rows have no ids, or one side has no rows.
        """
        keys = dataset.row_keys(self.id)
        labels = None
        if self.stratify:
            given = dataset.labels()
            labels = None if given is None else np.asarray(given)
        test = self.test_rows(keys, labels)
        dataset.split_rows = SplitRows(self, side, len(keys), *_fingerprint(keys))
        if test.all() or not test.any():
            lacking = "train" if test.all() else "test"
            raise DataError(
                f"the split gives none of the {len(test):,} rows to the {lacking} phase: add rows, or change split.test"
            )
        dataset.keep_rows(np.flatnonzero(test == (side == "test")))
        return dataset

    def rule(self) -> dict[str, Any]:
        """Returns the arguments, and the version of the hash."""
        return {**dataclasses.asdict(self), "hash": 1}


def _fingerprint(keys: np.ndarray) -> tuple[int, int, list[int]]:
    marks = np.unique(mix64(keys))
    return len(marks), int(marks.sum(dtype=np.uint64)), marks[:_SKETCHED].tolist()


@dataclass(frozen=True)
class SplitRows:
    """The rows that a split was made of.

    Attributes:
        split: the rule.
        side: "train" or "test", the rows that a dataset has.
        rows: how many rows both sides have.
        ids: how many ids the rows of both sides have.
        total: the sum of the ids' hashes, modulo 2^64: it differs if the ids do.
        sketch: the smallest of the hashes, by which changes are told apart (a bottom-k sketch: Cohen & Kaplan,
            "Summarizing data using bottom-k sketches", PODC 2007).
    """

    split: Split
    side: str
    rows: int
    ids: int
    total: int
    sketch: list[int]

    def record(self) -> dict[str, Any]:
        """Returns what a checkpoint stores of the split, of plain values."""
        return {"rule": self.split.rule(), "ids": self.ids, "total": self.total, "sketch": self.sketch}

    def remark(self, dataset: Any) -> str:
        """Describes the side of a dataset to the user."""
        kept = len(dataset.dataset)
        how = f"the column {self.split.id!r}" if self.split.id is not None else "path"
        return f"{kept:,} of {self.rows:,} rows ({kept / self.rows:.1%}), by a hash of {how} and seed {self.split.seed}"

    def change(self, before: Mapping[str, Any]) -> Literal["added", "removed", "replaced"] | None:
        """Returns how the ids changed since a record of a split was made; None if they are the same.

        "added" if there are only more, "removed" if there are only fewer. Of more than 1,024 ids it is judged by 1,024
        of them, so that "added" may overlook a few that are gone.
        """
        if (self.ids, self.total) == (before["ids"], before["total"]):
            return None
        then, now = set(before["sketch"]), set(self.sketch)
        # Above the largest hash of a full sketch, nothing is known.
        most = min([max(one) for one in (then, now) if len(one) == _SKETCHED], default=2**64)
        lost = any(mark <= most for mark in then - now)
        new = any(mark <= most for mark in now - then)
        if (lost and new) or self.ids == before["ids"]:
            return "replaced"
        if not lost and not new:
            return "added" if self.ids > before["ids"] else "removed"
        return "removed" if lost else "added"
