"""Checkpoints are written by a thread, from a copy of the state, while training goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


class CheckpointWriter:
    """Does one thing after the other in a thread of its own; what goes wrong there is raised at the next call."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Waits for what was begun before, then begins with this."""
        self.wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = self._pool.submit(write)

    def wait(self) -> None:
        """Waits until what was begun is done."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def check(self) -> None:
        """Raises what has gone wrong already, without waiting."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def last(self) -> Future[None]:
        """What was begun last; done if nothing was."""
        if self._pending is not None:
            return self._pending
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """Waits, and ends the thread; for use when another error is on its way already."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)


def host_copy(value: Any) -> Any:
    """A copy of a state in host memory, which later steps do not change; tensors that are one stay one.

    What is on a GPU goes to page-locked memory, which torch keeps for the next copy: from the second one on it takes
    the time of the bus.
    """
    seen: dict[Any, torch.Tensor] = {}
    copied = _copied(value, seen)
    for device in {device for _, device, *_ in seen if device.type == "cuda"}:
        torch.cuda.synchronize(device)
    return copied


def _copied(value: Any, seen: dict[Any, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        key = (value.data_ptr(), value.device, value.dtype, value.shape, value.stride())
        if not value.numel() or key not in seen:
            seen[key] = _on_host(value.detach())
        return seen[key]
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update({name: _copied(item, seen) for name, item in value.items()})
        return copied
    if isinstance(value, list):
        return [_copied(item, seen) for item in value]
    return tuple(_copied(item, seen) for item in value) if type(value) is tuple else value


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor.to("cpu", copy=True)
    try:
        there = torch.empty_like(tensor, device="cpu", pin_memory=True)
    except RuntimeError:  # this machine gives no more such memory
        return tensor.to("cpu", copy=True)
    return there.copy_(tensor, non_blocking=True)
