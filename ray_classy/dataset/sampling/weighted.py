"""Sampling by weights: each row occurs in an epoch in proportion to a number in a column of the source."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from ray_classy.dataset.sampling.classy_sampling import ClassySampling, register_sampling
from ray_classy.dataset.sampling.systematic import offset_of, summed, systematic_counts
from ray_classy.errors import ComponentError, DataError

_ON_LINE = 2
"""Separates the order of rows on the line from that of an epoch, which is drawn from (seed, epoch)."""


@register_sampling("weighted")
class WeightedSampling(ClassySampling):
    """Uses each row in proportion to its weight: of R rows, row i is expected R * weight_i / sum(weights) times.

    In each epoch it occurs that often, rounded down or up (systematic resampling, see `systematic_counts`), not as
    often as it was drawn. A row of weight 0 never occurs.

    Args:
        column: name of the column of weights, numbers of at least 0.
        rows: rows of an epoch, at least 1; None for as many as the dataset has.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(self, column: str, rows: int | None = None) -> None:
        super().__init__(rows)
        if not isinstance(column, str) or not column:
            raise ComponentError(f"column must be the name of the column of weights, not {column!r}")
        self.column = column
        self._line: tuple[Any, ...] | None = None

    def check(self, dataset: Any) -> None:
        weights = self._weights(dataset)
        if (weights < 0).any():
            row = int((weights < 0).argmax())
            raise DataError(f"row {row} has weight {weights[row]} (column {self.column!r}): weights are at least 0")
        if not weights.any():
            raise DataError(f"all weights are 0 (column {self.column!r}): an epoch would have no rows")

    def counts(self, dataset: Any, seed: int, epoch: int) -> np.ndarray:
        shuffled, ends = self._on_line(dataset, seed)
        counts = np.empty(len(dataset), np.int64)
        counts[shuffled] = systematic_counts(ends, self.num_rows(dataset), offset_of(seed, epoch))
        return counts

    def remark(self, dataset: Any) -> str:
        weights, draws = self._weights(dataset).astype(np.float64), self.num_rows(dataset)
        often = draws * weights / weights.sum()
        never = int((weights == 0).sum())
        return (
            f"an epoch has {draws:,} rows, each {often[often > 0].min():.2g} to {often.max():.2g} times by its weight"
            + (f", but {never:,} of weight 0 never" if never else "")
        )

    def identity(self, dataset: Any) -> list[Any]:
        return [*super().identity(dataset), zlib.crc32(np.ascontiguousarray(self._weights(dataset)).tobytes())]

    def _weights(self, dataset: Any) -> np.ndarray:
        return dataset.row_values(self.column)[: len(dataset)]

    def _on_line(self, dataset: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows in the order in which they lie on the line, one for all epochs, and the sums of weights."""
        weights = self._weights(dataset)
        known = self.__dict__.get("_line")
        if known is None or known[0] != seed or not np.array_equal(known[1], weights):
            self.check(dataset)
            shuffled = np.random.default_rng([seed, _ON_LINE, 0]).permutation(len(weights))
            known = self._line = (seed, weights, shuffled, summed(weights[shuffled], self.num_rows(dataset)))
        return known[2], known[3]
