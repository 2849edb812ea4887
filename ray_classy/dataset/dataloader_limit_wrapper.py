"""A loader that gives a fixed number of another loader's batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ray_classy.dataset.dataloader_wrapper import DataloaderWrapper
from ray_classy.errors import ComponentError, LoaderError


class DataloaderLimitWrapper(DataloaderWrapper):
    """Gives `limit` batches of a loader, and begins with its first one again where it has fewer.

    Args:
        dataloader: any iterable.
        limit: number of batches, at least 0.
        wrap_around: whether the loader is iterated over again where it has fewer batches.

    Raises:
        ComponentError: `limit` is not such an integer.
        LoaderError: (when iterated) the loader has fewer batches and does not wrap around, or has none.
    """

    def __init__(self, dataloader: Iterable[Any], limit: int, wrap_around: bool = True) -> None:
        super().__init__(dataloader)
        if type(limit) is not int or limit < 0:
            raise ComponentError(f"limit must be an integer of at least 0, not {limit!r}")
        self.__dict__.update(limit=limit, wrap_around=wrap_around, _count=0)

    def __iter__(self) -> Iterator[Any]:
        self._iter, self._count = iter(self.dataloader), 0
        return self

    def __next__(self) -> Any:
        if self._iter is None:
            iter(self)
        if self._count >= self.limit:
            raise StopIteration
        self._count += 1
        try:
            return next(self._iter)
        except StopIteration:
            if not self.wrap_around:
                raise LoaderError(f"the loader ended before it gave {self.limit} batches") from None
        self._iter = iter(self.dataloader)
        try:
            return next(self._iter)
        except StopIteration:
            raise LoaderError("the loader has no batches (an iterator has none left): check its dataset") from None

    def __len__(self) -> int:
        return self.limit
