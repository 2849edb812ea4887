"""Predictions as rows of a table, and as a file of one of three formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from ray_classy.errors import ComponentError

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_classy.inference.classifier import Classifier, Prediction

FORMATS = (".parquet", ".csv", ".jsonl")


def row_of(path: str, prediction: Prediction | None, error: str = "") -> dict[str, Any]:
    """Returns the row of an image.

    Args:
        path: of the image.
        prediction: None for an image that cannot be decoded.
        error: why not.
    """
    if prediction is None:
        return {"path": path, "prediction": None, "score": None, "topk": None, "error": error}
    top = [{"label": label, "score": score} for label, score in prediction.top]
    return {"path": path, "prediction": prediction.label, "score": prediction.score, "topk": top, "error": None}


def predicted_rows(model: Classifier, paths: Sequence[str], topk: int, batch_size: int) -> list[dict[str, Any]]:
    """Predicts image files, and returns a row for each; one that cannot be decoded has no prediction."""
    errors: dict[int, str] = {}
    predictions: dict[int, Prediction] = {}
    for numbers, scores in model.scores(paths, batch_size, errors):
        predictions.update(zip(numbers.tolist(), model.predictions(scores, topk), strict=True))
    return [row_of(path, predictions.get(number), errors.get(number, "")) for number, path in enumerate(paths)]


def schema() -> pa.Schema:
    """The columns of predictions in Arrow's types."""
    import pyarrow as pa

    top = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
    text = pa.string()
    return pa.schema([("path", text), ("prediction", text), ("score", pa.float32()), ("topk", top), ("error", text)])


def check_format(suffix: str) -> None:
    """Refuses a suffix that is not one of `FORMATS`.

    Raises:
        ComponentError: it is not.
    """
    if suffix not in FORMATS:
        found = repr(suffix) if suffix else "a name without a suffix"
        raise ComponentError(f"predictions are written to files that end in {', '.join(FORMATS)}, not {found}")


def write_rows(file: BinaryIO, parts: Iterable[list[dict[str, Any]]], suffix: str) -> None:
    """Writes rows to a file in the format of a suffix, part by part.

    Args:
        file: open for writing.
        parts: rows as `row_of` makes them.
        suffix: one of `FORMATS`.
    """
    if suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        with parquet.ParquetWriter(pa.PythonFile(file, mode="w"), schema()) as writer:
            for rows in parts:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema()))
        return
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    if suffix == ".csv":
        out = csv.DictWriter(text, schema().names)
        out.writeheader()
        for rows in parts:
            out.writerows({**row, "topk": None if row["topk"] is None else json.dumps(row["topk"])} for row in rows)
    else:
        for rows in parts:
            text.writelines(json.dumps(row) + "\n" for row in rows)
    text.detach()
