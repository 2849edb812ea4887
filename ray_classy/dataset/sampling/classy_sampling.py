"""The base class of samplings, which decide how often an epoch has each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import Registry, construct

SAMPLING_REGISTRY: Registry[ClassySampling] = Registry(
    "sampling",
    {
        "balanced": "ray_classy.dataset.sampling.balanced:BalancedSampling",
        "repeated": "ray_classy.dataset.sampling.repeated:RepeatedSampling",
        "weighted": "ray_classy.dataset.sampling.weighted:WeightedSampling",
    },
)
register_sampling = SAMPLING_REGISTRY.register


class ClassySampling:
    """Decides how often each epoch of a train phase has each row of a dataset.

    The counts are a function of (seed, epoch) alone, so that ranks need no communication, and a run resumes at the row
    on any number of them. A subclass defines `counts`.

    Args:
        rows: rows of an epoch, at least 1; None for as many as the dataset has.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(self, rows: int | None = None) -> None:
        if rows is not None and (type(rows) is not int or rows < 1):
            raise ComponentError(f"rows must be an integer of at least 1 or null, not {rows!r}")
        self.rows = rows

    def num_rows(self, dataset: Any) -> int:
        """Returns the number of rows of an epoch."""
        return len(dataset) if self.rows is None else self.rows

    def counts(self, dataset: Any, seed: int, epoch: int) -> np.ndarray:
        """Returns how often an epoch has each row: integers, shape (rows of the dataset,), of the sum `num_rows`.

        Args:
            dataset: a `ClassyDataset`.
            seed: the run's seed.
            epoch: pass over the dataset, from 0.
        """
        raise NotImplementedError(f"{type(self).__name__} must define counts")

    def check(self, dataset: Any) -> None:
        """Checks that the rows of a dataset can be sampled, and reads what that needs.

        Raises:
            ComponentError: rows have no such column.
            DataError: rows have no classes, say; the message says what they lack.
        """

    def remark(self, dataset: Any) -> str:
        """Describes an epoch to the user."""
        return f"an epoch has {self.num_rows(dataset):,} rows"

    def identity(self, dataset: Any) -> list[Any]:
        """Returns plain values that are equal for equal sampling of equal rows."""
        plain = {name: value for name, value in sorted(vars(self).items()) if not name.startswith("_")}
        return [type(self).__name__, *(item for pair in plain.items() for item in map(str, pair))]

    def order(self, dataset: Any, seed: int, epoch: int) -> np.ndarray:
        """Returns the rows of an epoch in the order in which they are read, int64, shape (num_rows,).

        With n rows in `dataset.dataset`, number i + k * n is row i for the k-th time, from 0: it is transformed with
        other random numbers each time.
        """
        counts = self.counts(dataset, seed, epoch)
        assert counts.sum() == self.num_rows(dataset), f"{type(self).__name__}.counts has another sum than num_rows"
        numbers = np.repeat(np.arange(len(counts)), counts)
        times = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers += times * len(dataset.dataset)
        return numbers[np.random.default_rng([seed, epoch]).permutation(len(numbers))]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


SAMPLING_REGISTRY.base = ClassySampling


def build_sampling(config: Mapping[str, Any]) -> ClassySampling:
    """Builds a sampling from its config; `name` chooses the class.

    Raises:
        UnknownComponentError: no sampling has that name.
        ComponentError: an argument has an invalid value.
    """
    return construct(SAMPLING_REGISTRY.named_class(config), config)


def classes_of_rows(dataset: Any, target: str | None = None) -> np.ndarray:
    """Returns the class of each row of a dataset, integers, shape (rows,); negative ones of rows without a class.

    Args:
        dataset: a `ClassyDataset`.
        target: name of the target, of several.

    Raises:
        DataError: a row has no class that is known without decoding it, or several.
    """
    columns = dataset.target_columns() if hasattr(dataset, "target_columns") else {}
    several = [name for name in columns if name != ONLY]
    if (target is not None or several) and target not in several:
        missing = "" if target is None else f"there is no target {target!r}; "
        if not several:
            raise DataError(f"{missing}these rows have one target: leave sampling.target out")
        raise DataError(
            f"{missing}these rows have several targets: set sampling.target to one of them, {', '.join(several)}"
        )
    column = columns.get(ONLY if target is None else target)
    given = dataset.labels() if column is None and callable(dataset.labels) else getattr(column, "targets", None)
    labels = np.asarray([] if given is None else given)
    is_list = column is not None and given is None
    if is_list or labels.ndim > 1 or (len(labels) and not np.issubdtype(labels.dtype, np.integer)):
        raise DataError(
            "balanced sampling needs one class for each row, and these rows have several labels: leave it out, or "
            "write weights into a column ({name: weighted, column: ...})"
        )
    if not len(labels) or (labels < 0).all():
        raise DataError(
            "balanced sampling needs the class of each row, and none is known before rows are decoded: use a dataset "
            "with a folder or a column of labels"
        )
    return labels[: len(dataset)]
