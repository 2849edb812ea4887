"""Writing of checkpoints in a background thread, from a copy of the state, while training continues."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from ray_classy.generic.util import map_tensors


class CheckpointWriter:
    """Runs one write at a time in a background thread; its exception is raised by the next call."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Waits for the previous write, then starts this one."""
        self.wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = self._pool.submit(write)

    def wait(self) -> None:
        """Waits until the current write is done."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def check(self) -> None:
        """Raises the exception of a write that has failed; does not wait for one that still runs."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def last(self) -> Future[None]:
        """Returns the future of the current write; a completed one if there is none."""
        if self._pending is not None:
            return self._pending
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """Waits for the current write and ends the thread, without raising the exception of the write."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)


def host_copy(value: Any) -> Any:
    """Copies a state to host memory, so that later steps do not change it; shared tensors stay shared.

    Tensors on a GPU are copied to page-locked memory. Torch caches it, so that from the second copy on only the
    transfer takes time.
    """
    seen: dict[Any, torch.Tensor] = {}

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        key = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        if not tensor.numel() or key not in seen:
            seen[key] = _on_host(tensor.detach())
        return seen[key]

    copies = map_tensors(value, copied)
    for device in {device for _, device, *_ in seen if device.type == "cuda"}:
        torch.cuda.synchronize(device)
    return copies


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor.to("cpu", copy=True)
    try:
        copied = torch.empty_like(tensor, device="cpu", pin_memory=True)
    except RuntimeError:  # no more memory of this machine can be page-locked
        return tensor.to("cpu", copy=True)
    return copied.copy_(tensor, non_blocking=True)
