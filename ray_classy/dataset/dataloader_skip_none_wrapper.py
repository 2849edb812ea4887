"""A loader without the batches of another that are None."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray_classy.dataset.dataloader_wrapper import DataloaderWrapper


class DataloaderSkipNoneWrapper(DataloaderWrapper):
    """Skips the batches of a loader that are None; how many that leaves is not known, so it has no length.

    Args:
        dataloader: any iterable.
    """

    def __iter__(self) -> Iterator[Any]:
        self._iter = iter(self.dataloader)
        return self

    def __next__(self) -> Any:
        if self._iter is None:
            iter(self)
        while True:
            batch = next(self._iter)
            if batch is not None:
                return batch
