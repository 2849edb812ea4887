"""The file of evaluated rows: what each one is, and what the model says of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import ComponentError, RunFolderError
from ray_classy.inference.evaluation import Evaluation, TargetEvaluation
from ray_classy.inference.outputs import THRESHOLD
from ray_classy.inference.places import place_of
from ray_classy.urls import shown


def check_row_file(path: str) -> None:
    """Refuses a file that cannot be written: one that exists, or is named otherwise.

    Raises:
        ComponentError: its name does not end in .parquet.
        RunFolderError: it exists.
    """
    storage, name = place_of(path)
    if not name.lower().endswith(".parquet"):
        raise ComponentError(f"evaluated rows are written to a .parquet file, not {name!r}")
    if storage.exists(name):
        raise RunFolderError(f"{shown(path)!r} exists: remove it, or give another name")


def write_row_file(path: str, found: Evaluation) -> None:
    """Writes columns `path`, `label`, `prediction`, `score` (of the prediction), `loss` and `scores` (of all classes).

    Where a row may have several labels, `label` and `prediction` are lists, and there is no `score`. Columns of one of
    several targets have its name before theirs: `colour/label`.

    Args:
        path: path or URL of the file.
        found: the evaluation.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {"path": found.names}
    for target, one in found.targets.items():
        start = "" if target == ONLY else f"{target}/"
        columns.update((f"{start}{name}", values) for name, values in _columns(one).items())
    table = pa.table(columns)
    storage, name = place_of(path)
    storage.make()
    storage.write(name, lambda file: parquet.write_table(table, pa.PythonFile(file, mode="w")))


def _columns(one: TargetEvaluation) -> dict[str, Any]:
    import pyarrow as pa

    rows, classes = one.rows, pa.array(one.classes)
    scores = pa.FixedSizeListArray.from_arrays(rows.scores.ravel(), rows.scores.shape[1])
    unknown = ~rows.labelled
    losses = pa.array(rows.losses, mask=unknown)
    if rows.label.ndim == 1:
        label = classes.take(pa.array(rows.label, mask=unknown))
        best = rows.scores.max(axis=1)
        return {
            "label": label,
            "prediction": classes.take(pa.array(rows.prediction)),
            "score": best,
            "loss": losses,
            "scores": scores,
        }
    label, prediction = _listed(rows.label == 1, classes, unknown), _listed(rows.scores > THRESHOLD, classes)
    return {"label": label, "prediction": prediction, "loss": losses, "scores": scores}


def _listed(chosen: np.ndarray, classes: Any, unknown: np.ndarray | None = None) -> Any:
    """Returns the chosen classes of each row, shape (rows, classes), as an Arrow array of lists."""
    import pyarrow as pa

    offsets = np.concatenate([[0], chosen.sum(axis=1).cumsum()]).astype(np.int32)
    mask = None if unknown is None else pa.array(unknown)
    return pa.ListArray.from_arrays(pa.array(offsets), classes.take(pa.array(np.nonzero(chosen)[1])), mask=mask)
