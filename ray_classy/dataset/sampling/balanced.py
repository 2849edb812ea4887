"""Sampling by class: each class has the same number of rows in an epoch, or one that grows less than its size."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ray_classy.dataset.sampling.classy_sampling import ClassySampling, classes_of_rows, register_sampling
from ray_classy.dataset.sampling.systematic import offset_of, summed, systematic_counts
from ray_classy.errors import ComponentError

_MOST_NAMED = 3
_IN_CLASSES = 1
"""Separates the order of rows in their classes from that of an epoch, which is drawn from (seed, epoch)."""


class _Groups(NamedTuple):
    """The rows of a dataset by class.

    Attributes:
        labels: that they were made of.
        seed: likewise.
        rows: row numbers, class after class, shuffled in each.
        classes: shape (C,).
        sizes: rows of each, shape (C,).
    """

    labels: np.ndarray
    seed: int
    rows: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray


@register_sampling("balanced")
class BalancedSampling(ClassySampling):
    """Gives each class the same number of rows in an epoch, or a share in proportion to size ** power.

    Of R rows and C classes, each class has floor(R / C) or ceil(R / C). Its own rows are taken in turn, in one shuffled
    order over all epochs: after any number of epochs, each was used as often as any other of its class, or once more,
    and so in each single epoch. Classes without rows do not count; rows without a class (labels -1 and -100) are left
    out.

    With `power`, a class of n rows has a share in proportion to n ** power: 0 gives equal shares, 0.5 is square-root
    sampling, and 1 gives each class its share of the rows ("Decoupling representation and classifier for long-tailed
    recognition", Kang et al., 2020, section 3). A temperature T, as in multilingual training, is a power of 1 / T.

    Args:
        power: in [0, 1].
        rows: rows of an epoch, at least 1; None for as many as the dataset has.
        target: whose classes count, where rows have several targets; its name.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(self, power: float = 0.0, rows: int | None = None, target: str | None = None) -> None:
        super().__init__(rows)
        if type(power) not in (int, float) or not 0 <= power <= 1:
            raise ComponentError(f"power must be a number from 0 (equal shares) to 1 (natural shares), not {power!r}")
        if target is not None and not isinstance(target, str):
            raise ComponentError(
                f"target must be the name of a target, or null where there is only one, not {target!r}"
            )
        self.power, self.target = float(power), target
        self._groups: _Groups | None = None

    def check(self, dataset: Any) -> None:
        classes_of_rows(dataset, self.target)

    def counts(self, dataset: Any, seed: int, epoch: int) -> np.ndarray:
        groups, draws = self._grouped(dataset, seed), self.num_rows(dataset)
        ends = self._ends(groups, draws)
        before = sum(
            (systematic_counts(ends, draws, offset_of(seed, number)) for number in range(epoch)),
            start=np.zeros(len(ends), np.int64),
        )
        taken = systematic_counts(ends, draws, offset_of(seed, epoch))
        # Each class goes on in the circle of its rows where the epoch before ended.
        size = np.repeat(groups.sizes, groups.sizes)
        place = np.arange(len(groups.rows)) - np.repeat(np.cumsum(groups.sizes) - groups.sizes, groups.sizes)
        ahead = (place - np.repeat(before % groups.sizes, groups.sizes)) % size
        counts = np.zeros(len(dataset), np.int64)
        each, once_more = np.divmod(taken, groups.sizes)
        counts[groups.rows] = np.repeat(each, groups.sizes) + (ahead < np.repeat(once_more, groups.sizes))
        return counts

    def remark(self, dataset: Any) -> str:
        groups = self._grouped(dataset, 0)
        draws, names = self.num_rows(dataset), getattr(dataset, "classes", None)
        if self.target is not None:
            names = dataset.target_columns()[self.target].classes
        taken = systematic_counts(self._ends(groups, draws), draws, 0)
        often = taken / groups.sizes

        def described(index: int) -> str:
            label = int(groups.classes[index])
            name = names[label] if isinstance(names, list) and label < len(names) else label
            return f"{name} {groups.sizes[index]:,} x {often[index]:.2g}"

        order = np.argsort(-often, kind="stable")
        shown = order if len(order) <= 2 * _MOST_NAMED else [*order[:_MOST_NAMED], *order[-_MOST_NAMED:]]
        listed = [described(int(index)) for index in shown]
        if len(listed) < len(order):
            listed.insert(_MOST_NAMED, "...")
        least, most = int(taken.min()), int(taken.max())
        share = f"{least:,}" if least == most else f"{least:,} {'or' if most == least + 1 else 'to'} {most:,}"
        return (
            f"an epoch has {draws:,} rows, {share} of each of {len(taken):,} classes; rows x times that each is used: "
            f"{', '.join(listed)}"
        )

    def _ends(self, groups: _Groups, draws: int) -> np.ndarray:
        return summed(groups.sizes.astype(np.float64) ** self.power, draws)

    def _grouped(self, dataset: Any, seed: int) -> _Groups:
        labels = classes_of_rows(dataset, self.target)
        known = self.__dict__.get("_groups")
        if known is not None and known.seed == seed and np.array_equal(known.labels, labels):
            return known
        shuffled = np.random.default_rng([seed, _IN_CLASSES, 0]).permutation(len(labels))
        shuffled = shuffled[labels[shuffled] >= 0]
        found = labels[shuffled]
        if found.max() < 2**16:
            found = found.astype(np.uint16)  # which NumPy sorts by radix
        order = np.argsort(found, kind="stable")
        begins = np.flatnonzero(np.diff(found[order].astype(np.int64), prepend=-1))
        sizes = np.diff(begins, append=len(order))
        self._groups = _Groups(labels, seed, shuffled[order], found[order[begins]].astype(np.int64), sizes)
        return self._groups
