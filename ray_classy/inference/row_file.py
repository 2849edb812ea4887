"""The file of evaluated rows: what each one is, and what the model says of it."""

from __future__ import annotations

import os

from ray_classy.errors import ComponentError, RunFolderError
from ray_classy.inference.evaluation import Evaluation
from ray_classy.storage import Storage
from ray_classy.urls import expanded, is_url, parent, shown, split_query


def check_row_file(path: str) -> None:
    """Refuses a file that cannot be written: one that exists, or is named otherwise.

    Raises:
        ComponentError: its name does not end in .parquet.
        RunFolderError: it exists.
    """
    storage, name = _place(path)
    if not name.lower().endswith(".parquet"):
        raise ComponentError(f"evaluated rows are written to a .parquet file, not {name!r}")
    if storage.exists(name):
        raise RunFolderError(f"{shown(path)!r} exists: remove it, or give another name")


def write_row_file(path: str, found: Evaluation) -> None:
    """Writes columns `path`, `label`, `prediction`, `score` (of the prediction), `loss` and `scores` (of all classes).

    Args:
        path: path or URL of the file.
        found: the evaluation.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = found.rows
    classes = pa.array(found.classes)
    predicted = rows.prediction
    table = pa.table(
        {
            "path": found.names,
            "label": classes.take(pa.array(rows.label)),
            "prediction": classes.take(pa.array(predicted)),
            "score": rows.scores.max(axis=1),
            "loss": rows.loss,
            "scores": pa.FixedSizeListArray.from_arrays(rows.scores.ravel(), rows.scores.shape[1]),
        }
    )
    storage, name = _place(path)
    storage.make()
    storage.write(name, lambda file: parquet.write_table(table, pa.PythonFile(file, mode="w")))


def _place(path: str) -> tuple[Storage, str]:
    path = expanded(path)
    if is_url(path):
        return Storage(parent(path)), os.path.basename(split_query(path)[0])
    folder, name = os.path.split(path)
    return Storage(folder or "."), name
