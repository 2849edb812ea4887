"""The images that predictions are made of: rows of files, tables, shards and memory, one source after the other."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import Rows
from ray_classy.errors import DataError


@dataclass(frozen=True)
class ImageSource:
    """Rows of one kind.

    Attributes:
        rows: the raw rows.
        decode: makes a sample `{"input": image}` of one.
        name_of: names a row, by its number, as the column `path` of predictions does.
        content: what the predictions depend on: the paths, or the files with their sizes and times of change.
        ids: ids of the rows, an Arrow array; None if none are asked for.
    """

    rows: Rows
    decode: Callable[[dict[str, Any]], Any]
    name_of: Callable[[int], str]
    content: Sequence[str]
    ids: Any = None


class ImageRows:
    """The rows of several sources, numbered on from one to the next.

    Args:
        sources: at least one.
    """

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources = list(sources)
        self.ends = list(accumulate(len(source.rows) for source in sources))

    def __len__(self) -> int:
        return self.ends[-1]

    def at(self, number: int) -> tuple[int, int]:
        """Returns the number of the source of a row, and that of the row in it."""
        source = bisect.bisect_right(self.ends, number)
        return source, number - (self.ends[source - 1] if source else 0)

    def names(self, numbers: Sequence[int]) -> list[str]:
        """Returns the names of rows."""
        return [self.sources[source].name_of(row) for source, row in map(self.at, numbers)]

    @property
    def have_ids(self) -> bool:
        """Whether the rows have ids besides their names."""
        return all(source.ids is not None for source in self.sources)

    def ids(self, numbers: Sequence[int]) -> list[str | None]:
        """Returns the ids of rows; None for those without."""
        if not self.have_ids:
            return [None] * len(numbers)
        found = (self.sources[source].ids[row].as_py() for source, row in map(self.at, numbers))
        return [None if one is None else str(one) for one in found]

    def fingerprint(self) -> str:
        """Returns a checksum of what the rows are, so that other rows are not taken for the same."""
        digest = hashlib.sha256()
        for source in self.sources:
            digest.update(f"{len(source.rows)}\n".encode())
            for text in source.content:
                digest.update(text.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def files(self) -> list[str]:
        """Returns a file of each source, to see whether other machines have it too."""
        return [file for source in self.sources for file in source.rows.files() or list(source.content[:1])]

    def dataset(self, transform: Callable[[Any], Any], errors: dict[int, str] | None = None) -> ImageDataset:
        """Returns the rows as a dataset of samples `{"input": tensor, "row": number}`.

        Args:
            transform: of samples `{"input": image}`.
            errors: gets a message, by row, for each image that cannot be decoded, which is passed over then; without
                it, the first one is an error.
        """
        return _Images(1, False, transform, images=self, errors=errors)


class _Images(ImageDataset):
    """Images of any kind, without targets."""

    def open_rows(self, images: ImageRows, errors: dict[int, str] | None) -> RowDataset:
        decode = _Decode(images, errors)
        return RowDataset(_JoinedRows(images), decode, 0 if errors is None else len(images), cacheable=False)


class _JoinedRows(Rows):
    def __init__(self, images: ImageRows) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        places = [self.images.at(index) for index in indices]
        taken: dict[tuple[int, int], dict[str, Any]] = {}
        for number, source in enumerate(self.images.sources):
            rows = list(dict.fromkeys(row for at, row in places if at == number))
            if rows:
                taken.update(zip(((number, row) for row in rows), source.rows.take(rows), strict=True))
        return [dict(taken[place]) for place in places]

    def column(self, name: str) -> Any:
        raise DataError(f"images of several sources have no column {name!r}")


@dataclass(frozen=True)
class _Decode:
    images: ImageRows
    errors: dict[int, str] | None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = row["_number"]
        source, own = self.images.at(row["row"])
        try:
            sample = self.images.sources[source].decode({**row, "row": own})
        except DataError as error:
            if self.errors is not None:
                self.errors[number] = str(error)
            raise
        return {"input": sample["input"], "row": number}
