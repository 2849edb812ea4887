"""What is known of a dataset's classes before a row is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ray_classy.dataset.classy_dataset import ClassyDataset


def class_names(dataset: Any) -> list[str] | None:
    """Returns the names of a dataset's classes; None if its attribute `classes` is missing or not a list of names."""
    names = getattr(dataset, "classes", None)
    return list(names) if isinstance(names, list | tuple) else None


def class_indices(dataset: ClassyDataset) -> np.ndarray | None:
    """Returns the targets of all rows; None if they are not known without decoding, or are not class indices."""
    # A user's dataset may have an attribute of that name.
    given = dataset.labels() if callable(dataset.labels) else None
    labels = np.asarray([] if given is None else given)
    return labels if len(labels) and np.issubdtype(labels.dtype, np.integer) else None
