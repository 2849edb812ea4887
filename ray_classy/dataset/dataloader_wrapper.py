"""The base class of loaders that change the batches of another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any


class DataloaderWrapper(ABC):
    """A loader that iterates over another one in its own way; other attributes are read from and set on the other.

    Args:
        dataloader: any iterable; an iterator can be read once only.

    Attributes:
        dataloader: the loader that is wrapped.
    """

    def __init__(self, dataloader: Iterable[Any]) -> None:
        self.__dict__["dataloader"] = dataloader
        self.__dict__["_iter"] = None

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Starts a new pass over the batches, and returns this object."""

    @abstractmethod
    def __next__(self) -> Any:
        """Returns the next batch."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "dataloader" not in self.__dict__:  # a copy that is being made has no loader yet
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.dataloader, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.dataloader, name, value)
