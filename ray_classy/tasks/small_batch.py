"""Reads a small batch of a dataset, to try a task on it before training."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate

from ray_classy.config.places import locate
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.row_dataset import row_name
from ray_classy.errors import DataError, RayClassyError, TaskError
from ray_classy.memory import reason_of
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.user_code import is_installed

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask

_ROWS_READ = 8
"""Rows that are read to find two of different sizes."""


def small_batch(task: ClassificationTask, phase_type: str, dataset: ClassyDataset) -> dict[str, Any]:
    """Returns a batch of two rows, of different sizes if there are such; of one row if batches have no more."""
    with host_rng_kept():
        seed_host(derive_seed(task.seed, 0, 0))
        rows = _two_rows(task, phase_type, dataset)
    try:
        return default_collate([row for _, row in rows])
    except (TypeError, RuntimeError, StopIteration, KeyError) as error:
        keys = [sorted(map(str, row)) for _, row in rows]
        if isinstance(error, KeyError) and keys[0] != keys[-1]:
            raise TaskError(
                f"samples of the {phase_type} dataset cannot be put together into a batch: row {rows[0][0]} has the "
                f"keys {keys[0]}, and row {rows[-1][0]} has {keys[-1]}. The transforms must give all samples the same "
                f"keys"
            ) from None
        sizes = [tuple(row["input"].shape) for _, row in rows if isinstance(row["input"], torch.Tensor)]
        if len(set(sizes)) > 1:
            raise TaskError(
                f"samples of the {phase_type} dataset cannot be put together into a batch: "
                f"{row_name(dataset, rows[0][0])} has size {sizes[0]}, and {row_name(dataset, rows[1][0])} has "
                f"{sizes[1]}. The transforms must make all samples the same size "
                f"(add Resize and CenterCrop, say), or set batchsize_per_replica to 1"
            ) from None
        raise TaskError(
            f"samples of the {phase_type} dataset cannot be put together into a batch: {reason_of(error)}. "
            f"The transforms must end in a tensor (add ToTensor, or ToImage and ToDtype)"
        ) from None


def _two_rows(task: ClassificationTask, phase_type: str, dataset: ClassyDataset) -> list[tuple[int, dict[str, Any]]]:
    """Returns the number and the sample of the first row, and of the first of another size or else the second."""
    bad, most_bad = 0, getattr(dataset.dataset, "max_bad_rows", 0)
    last: DataError | None = None
    rows: list[tuple[int, dict[str, Any]]] = []
    for index in range(len(dataset)):
        try:
            sample: Any = dataset[index]
        except DataError as error:
            bad, last = bad + 1, error
            if bad > most_bad:
                raise
            continue
        except RayClassyError:
            raise
        except Exception as error:
            raise TaskError(
                f"{locate(task.built_from, 'dataset', phase_type)}"
                f"row {index} of the {phase_type} dataset cannot be read: "
                f"{reason_of(error).rstrip('.')}{_place_of(error)}. Correct the dataset or its transforms"
            ) from error
        if isinstance(sample, dict) and "input" in sample and "target" not in sample and dataset.without_targets:
            raise DataError(f"samples of the {phase_type} dataset have no targets: {dataset.without_targets}")
        if not isinstance(sample, dict) or not {"input", "target"} <= set(sample):
            raise TaskError(
                f"a sample of the {phase_type} dataset must be a dict with `input` and `target`, not "
                f"{sorted(map(str, sample)) if isinstance(sample, dict) else type(sample).__name__}: "
                f"change its transforms (tuple_to_map makes such a dict of a tuple)"
            )
        rows.append((index, sample))
        if dataset.get_batchsize_per_replica() == 1 or len(rows) == _ROWS_READ:
            break
        if getattr(sample["input"], "shape", None) != getattr(rows[0][1]["input"], "shape", None):
            return [rows[0], rows[-1]]
    if not rows:
        raise DataError(f"none of the {bad} rows of the {phase_type} dataset can be decoded: {last}") from last
    return rows[:2]


def _place_of(error: Exception) -> str:
    """Names the last line of the user's own code through which an error came; empty if there is none."""
    package = os.path.dirname(os.path.dirname(__file__))
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not is_installed(one.filename) and not one.filename.startswith(package)]
    return f" (in {own[-1].filename}:{own[-1].lineno})" if own else ""
