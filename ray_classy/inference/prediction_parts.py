"""Predictions of many images, written part by part, so that one that is interrupted goes on where it was."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ray_classy.errors import RunFolderError
from ray_classy.inference.image_rows import ImageRows
from ray_classy.inference.prediction_rows import Columns, check_format, write_rows
from ray_classy.records import damaged, parse_json_object
from ray_classy.storage import Storage
from ray_classy.urls import expanded, parent, shown, split_query

PART_IMAGES = 1024
"""Images of a part."""
_PLAN = "plan.json"


@dataclass(frozen=True)
class Predicted:
    """A file of predictions that is complete.

    Attributes:
        images: number of its rows.
        bad: rows of images that cannot be decoded.
        counts: how many images have each label, by target; the only target has the name "".
    """

    images: int
    bad: int
    counts: dict[str, Counter[str]]


class PredictionParts:
    """The file of predictions that is to be, and its parts.

    Args:
        output: path or URL of the file; its suffix is one of `FORMATS`.
        images: the images, in the order of the rows.
        columns: of the rows.
        asked: what else the rows depend on: the checkpoint, the number of classes.

    Raises:
        RunFolderError: the file exists, or its parts are those of other predictions.
        ComponentError: the suffix is another one.
    """

    def __init__(self, output: str, images: ImageRows, columns: Columns, asked: dict[str, Any]) -> None:
        self.path = expanded(output)
        self.suffix = os.path.splitext(split_query(self.path)[0])[1].lower()
        check_format(self.suffix)
        start, query = split_query(self.path)
        self._beside = Storage(parent(self.path) if query or "://" in start else os.path.dirname(start) or ".")
        self._name = os.path.basename(start)
        self._parts = f"{self._name}.parts"
        self._images = images
        self._columns = columns
        self._plan = {
            **asked,
            "images": len(images),
            "images_sha256": images.fingerprint(),
            "columns": columns.schema().names,
            "part_images": PART_IMAGES,
        }
        self._check()

    def _check(self) -> None:
        if self._beside.exists(self._name):
            raise RunFolderError(f"{shown(self.path)!r} exists: remove it, or give another --output")
        plan = f"{self._parts}/{_PLAN}"
        if not self._beside.exists(plan):
            return
        before = parse_json_object(self._beside.read(plan), self._beside.join(plan))
        other = [key for key in {**before, **self._plan} if before.get(key) != self._plan.get(key)]
        if other:
            raise RunFolderError(
                f"{shown(self._beside.join(self._parts))!r} has a part of other predictions ({', '.join(other)} "
                f"{'differs' if len(other) == 1 else 'differ'}): remove it, or give another --output"
            )

    def __len__(self) -> int:
        return -(-len(self._images) // PART_IMAGES)

    def missing(self) -> list[int]:
        """The numbers of the parts that are not written yet."""
        there = set(self._beside_parts().names())
        return [number for number in range(len(self)) if _part_name(number) not in there]

    def images_of(self, number: int) -> range:
        """The numbers of the images of a part."""
        return range(number * PART_IMAGES, min((number + 1) * PART_IMAGES, len(self._images)))

    def start(self) -> None:
        """Notes what is predicted, before the first part is written."""
        self._beside.make()
        if not self._beside.exists(f"{self._parts}/{_PLAN}"):
            self._beside.write(f"{self._parts}/{_PLAN}", json.dumps(self._plan).encode())

    def write(self, number: int, rows: Iterable[dict[str, Any]]) -> None:
        """Writes the rows of a part."""
        self._beside.write(
            f"{self._parts}/{_part_name(number)}", "".join(json.dumps(row) + "\n" for row in rows).encode()
        )

    def finish(self) -> Predicted:
        """Puts the parts together to the file, and removes them."""
        counts: dict[str, Counter[str]] = {target: Counter() for target in self._columns.targets}
        bad = 0

        def parts() -> Iterator[list[dict[str, Any]]]:
            nonlocal bad
            for number in range(len(self)):
                rows = self._read(number)
                bad += sum(row["error"] is not None for row in rows)
                for target, labels in counts.items():
                    labels.update(label for row in rows for label in self._columns.labels_of(row, target))
                yield rows

        self._beside.write(self._name, lambda file: write_rows(file, parts(), self.suffix, self._columns))
        self._beside.remove(self._parts)
        return Predicted(len(self._images), bad, counts)

    def _read(self, number: int) -> list[dict[str, Any]]:
        import pyarrow as pa

        name = f"{self._parts}/{_part_name(number)}"
        where = self._beside.join(name)
        rows = [parse_json_object(line, where) for line in self._beside.read(name, most_bytes=None).splitlines()]
        schema = self._columns.schema()
        try:
            wrong = any(list(row) != schema.names for row in rows)
            pa.Table.from_pylist(rows, schema=schema)
        except (pa.ArrowException, TypeError) as error:
            raise damaged(where, f"it has values of another type ({error}); remove it") from None
        if wrong or [row["path"] for row in rows] != self._images.names(self.images_of(number)):
            raise damaged(where, "it has other rows than those of its images; remove it")
        return rows

    def _beside_parts(self) -> Storage:
        return Storage(self._beside.join(self._parts))


def _part_name(number: int) -> str:
    return f"part-{number:06d}.jsonl"
