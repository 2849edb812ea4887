"""Which datasets other processes than the training workers can make batches of."""

from __future__ import annotations

from typing import Any

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.row_dataset import row_dataset_of


def can_be_fed(dataset: Any) -> bool:
    """Whether other processes can make a dataset's batches: it makes them as `ClassyDataset` does, from any row."""
    base = row_dataset_of(dataset)
    plain = isinstance(dataset, ClassyDataset) and type(dataset).iterator is ClassyDataset.iterator
    return plain and (base is None or base.rows.random_access)
