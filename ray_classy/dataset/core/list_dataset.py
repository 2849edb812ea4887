"""A dataset of files in a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.utils.data

from ray_classy.dataset.decode import decode_image
from ray_classy.errors import ComponentError


class ListDataset(torch.utils.data.Dataset):
    """Loads the files of a list: samples `{"input": loader(file), **metadata}`.

    Args:
        files: paths or URLs.
        metadata: one dict per file, whose entries are added to its sample.
        loader: makes the input from a path; by default it decodes an RGB image.

    Raises:
        ComponentError: `metadata` and `files` differ in length, or `metadata` has an entry `input`.
    """

    def __init__(
        self,
        files: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        loader: Callable[[str], Any] = decode_image,
    ) -> None:
        if metadata is not None and len(metadata) != len(files):
            raise ComponentError(f"metadata must have one dict per file: it has {len(metadata)} for {len(files)} files")
        if any("input" in entry for entry in metadata or ()):
            raise ComponentError("metadata must have no entry `input`: that is the loaded file")
        self.files = files
        self.metadata = metadata
        self.loader = loader

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        added = self.metadata[index] if self.metadata is not None else {}
        return {"input": self.loader(self.files[index]), **added}
