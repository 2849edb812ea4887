"""A loader that copies the next batch to the GPU while the current one is worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from ray_classy.dataset.dataloader_wrapper import DataloaderWrapper
from ray_classy.errors import ComponentError
from ray_classy.generic.util import map_tensors, recursive_copy_to_gpu


class DataloaderAsyncGPUWrapper(DataloaderWrapper):
    """Copies each batch to the current GPU on a separate stream, one batch ahead.

    The batches of `ClassyDataset.iterator` travel this way without it.

    Args:
        dataloader: any iterable; copies overlap with work only if its batches lie in pinned memory.

    Raises:
        ComponentError: there is no GPU.
    """

    def __init__(self, dataloader: Iterable[Any]) -> None:
        if not torch.cuda.is_available():
            raise ComponentError("DataloaderAsyncGPUWrapper needs a GPU: iterate over the loader itself")
        super().__init__(dataloader)
        self.__dict__.update(_stream=torch.cuda.Stream(), _ready=None)

    def __iter__(self) -> Iterator[Any]:
        self._iter = iter(self.dataloader)
        self.preload()
        return self

    def preload(self) -> None:
        """Starts to copy the next batch."""
        try:
            batch = next(self._iter)
        except StopIteration:
            self._ready = None
            return
        with torch.cuda.stream(self._stream):
            self._ready = (recursive_copy_to_gpu(batch, non_blocking=True),)

    def __next__(self) -> Any:
        if self._iter is None:
            iter(self)
        if self._ready is None:
            raise StopIteration
        current = torch.cuda.current_stream()
        current.wait_stream(self._stream)
        (batch,) = self._ready

        def reserve(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(current)  # its memory is not reused before the work on it is done
            return tensor

        map_tensors(batch, reserve)
        self.preload()
        return batch

    def __len__(self) -> int:
        return len(self.dataloader)
