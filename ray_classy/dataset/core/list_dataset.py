"""A dataset of files in a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.utils.data

from ray_classy.dataset.decode import decode_image
from ray_classy.errors import ComponentError, RowNumberError


class ListDataset(torch.utils.data.Dataset):
    """Loads the files of a list: samples `{"input": loader(file), **metadata}`, or `{"input", "target"}`.

    Args:
        files: paths or URLs.
        metadata: a list with a dict for each file, whose entries are added to its sample; anything else in it is the
            target of the file.
        loader: makes the input from a path; by default it decodes an RGB image.

    Raises:
        ComponentError: `metadata` is not such a list, or one of its dicts has an entry `input`.
        RowNumberError: (when indexed) there is no file of that number.
    """

    def __init__(
        self,
        files: Sequence[str],
        metadata: Sequence[Any] | None = None,
        loader: Callable[[str], Any] = decode_image,
    ) -> None:
        if metadata is not None and not isinstance(metadata, list):
            raise ComponentError(f"metadata must be a list with an entry per file, not {type(metadata).__name__}")
        if metadata is not None and len(metadata) != len(files):
            raise ComponentError(
                f"metadata must have one entry per file: it has {len(metadata)} for {len(files)} files"
            )
        if any(isinstance(entry, Mapping) and "input" in entry for entry in metadata or ()):
            raise ComponentError("metadata must have no entry `input`: that is the loaded file")
        self.files = files
        self.metadata = metadata
        self.loader = loader

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self.files):
            raise RowNumberError(f"file {index} of a list of {len(self.files)} files")
        added = {} if self.metadata is None else self.metadata[index]
        return {"input": self.loader(self.files[index]), **(added if isinstance(added, Mapping) else {"target": added})}
