"""Predictions as rows of a table, and as a file of one of three formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import ComponentError
from ray_classy.inference.outputs import THRESHOLD, Prediction

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_classy.inference.classifier import Classifier
    from ray_classy.inference.image_rows import ImageRows
    from ray_classy.inference.pace import Pace

FORMATS = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class Columns:
    """The columns of predictions: `path`, `id`, those of each target, and `error`.

    A target has `prediction`, `score` and `topk`, and `labels` where an image may have several; of several targets, the
    names have the target's before them: `colour/prediction`.

    Attributes:
        targets: whether an image may have several labels, by target; the only target is `ONLY`.
        ids: whether rows have ids besides their paths.
    """

    targets: Mapping[str, bool]
    ids: bool = False

    @classmethod
    def of(cls, model: Classifier, images: ImageRows) -> Columns:
        """The columns of a model's predictions of some images."""
        return cls({target: output.several for target, output in model.outputs.items()}, images.have_ids)

    def name(self, target: str, column: str) -> str:
        """Returns the name of a column of a target."""
        return column if target == ONLY else f"{target}/{column}"

    def row(self, path: str, named: str | None, predictions: Mapping[str, Prediction] | None, error: str) -> dict:
        """Returns the row of an image.

        Args:
            path: of the image.
            named: its id, if rows have ids.
            predictions: by target; None for an image that cannot be decoded.
            error: why not.
        """
        row: dict[str, Any] = {"path": path, **({"id": named} if self.ids else {})}
        for target, several in self.targets.items():
            one = None if predictions is None else predictions[target]
            row[self.name(target, "prediction")] = one and one.label
            row[self.name(target, "score")] = one and one.score
            row[self.name(target, "topk")] = one and _pairs(one.top)
            if several:
                row[self.name(target, "labels")] = one and _pairs(one.labels or [])
        return {**row, "error": error if predictions is None else None}

    def schema(self) -> pa.Schema:
        """The columns in Arrow's types."""
        import pyarrow as pa

        text, pairs = pa.string(), pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
        fields = [("path", text), *([("id", text)] if self.ids else [])]
        for target, several in self.targets.items():
            kinds = [("prediction", text), ("score", pa.float32()), ("topk", pairs)]
            kinds += [("labels", pairs)] if several else []
            fields += [(self.name(target, column), kind) for column, kind in kinds]
        return pa.schema([*fields, ("error", text)])

    def labels_of(self, row: Mapping[str, Any], target: str) -> list[str]:
        """Returns the labels that a row of predictions has for a target."""
        if self.targets[target]:
            return [one["label"] for one in row[self.name(target, "labels")] or ()]
        label = row[self.name(target, "prediction")]
        return [] if label is None else [label]


def _pairs(named: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in named]


@dataclass(frozen=True)
class Asked:
    """What is asked of a model.

    Attributes:
        topk: classes of each image.
        threshold: the probability above which a class is one of an image's labels.
        batch_size: images that the model takes at once.
    """

    topk: int = 5
    threshold: float = THRESHOLD
    batch_size: int = 32


def predicted_rows(
    model: Classifier, images: ImageRows, numbers: range, asked: Asked, pace: Pace | None = None
) -> list[dict[str, Any]]:
    """Predicts images, and returns a row for each; one that cannot be decoded has no prediction.

    Args:
        model: the model.
        images: the images.
        numbers: those that are predicted.
        asked: what is asked of the model.
        pace: gets the number of those that are done, until all are.
    """
    errors: dict[int, str] = {}
    found: dict[int, Mapping[str, Prediction]] = {}
    for batch in model.preprocessing.loader(images, numbers, asked.batch_size, model.device, errors):
        found.update(predictions_of(model, batch, asked))
        batches = (int(batch["row"][-1]) - numbers.start) // asked.batch_size + 1
        if pace is not None and batches * asked.batch_size < len(numbers):
            pace.reach(batches * asked.batch_size, numbers.start)
    return rows_of_images(images, numbers, Columns.of(model, images), found, errors)


def predictions_of(model: Classifier, batch: Any, asked: Asked) -> dict[int, Mapping[str, Prediction]]:
    """Returns the predictions of a batch by the number of the image, and by target."""
    scores = model.probabilities_by_target(batch["input"])
    columns = {
        target: model.outputs[target].predictions(one, asked.topk, asked.threshold) for target, one in scores.items()
    }
    return {
        number: {target: column[place] for target, column in columns.items()}
        for place, number in enumerate(batch["row"].tolist())
    }


def rows_of_images(
    images: ImageRows,
    numbers: Sequence[int],
    columns: Columns,
    found: Mapping[int, Mapping[str, Prediction]],
    errors: Mapping[int, str],
) -> list[dict[str, Any]]:
    """Returns the rows of images of which there are predictions or errors, by their numbers."""
    named = zip(numbers, images.names(numbers), images.ids(numbers), strict=True)
    return [columns.row(path, one, found.get(number), errors.get(number, "")) for number, path, one in named]


def check_format(suffix: str) -> None:
    """Refuses a suffix that is not one of `FORMATS`.

    Raises:
        ComponentError: it is not.
    """
    if suffix not in FORMATS:
        found = repr(suffix) if suffix else "a name without a suffix"
        raise ComponentError(f"predictions are written to files that end in {', '.join(FORMATS)}, not {found}")


def write_rows(file: BinaryIO, parts: Iterable[list[dict[str, Any]]], suffix: str, columns: Columns) -> None:
    """Writes rows to a file in the format of a suffix, part by part.

    Args:
        file: open for writing.
        parts: rows as `Columns.row` makes them.
        suffix: one of `FORMATS`.
        columns: of the rows.
    """
    schema = columns.schema()
    if suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        with parquet.ParquetWriter(pa.PythonFile(file, mode="w"), schema) as writer:
            for rows in parts:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        return
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    if suffix == ".csv":
        out = csv.DictWriter(text, schema.names)
        out.writeheader()
        for rows in parts:
            out.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    else:
        for rows in parts:
            text.writelines(json.dumps(row) + "\n" for row in rows)
    text.detach()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
