"""Times the parts of a train step, by wrapping what the task calls in it."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ray_classy.dataset import device_batches
from ray_classy.dataset.loader import PhaseIterator
from ray_classy.tasks import ClassificationTask, classification_task, samples

PARTS = {
    "data": "waiting for the next batch",
    "transfer": "copying it to the device",
    "mixup": "mixing its rows",
    "forward": "forward pass of the model",
    "loss": "the loss",
    "meters": "updating the meters",
    "backward": "backward pass",
    "optimizer": "the optimizer",
    "hooks": "hooks after the step",
    "python": "all else: Python code around these parts",
}
"""What a step consists of, in this order."""


class Stopwatch:
    """Adds up the time in each part; in a part within another one, the inner one's counts for it alone.

    Args:
        wait: called at the beginning and the end of a part, so that a part lasts until the device is done with it.
        marks: whether the parts are named in a trace of `torch.profiler`.

    Attributes:
        seconds: by part.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None, marks: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._wait, self._marks = wait, marks
        self._inner: list[float] = []  # seconds of the parts within each part that is under way

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that does the same, and counts its time for a part."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.counting(part):
                return function(*args, **kwargs)

        return call

    def waited(self, part: str, items: Iterator[Any]) -> Iterator[Any]:
        """Yields the items, and counts the time that each takes for a part."""
        end = object()
        while True:
            with self.counting(part):
                item = next(items, end)
            if item is end:
                return
            yield item

    @contextlib.contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Counts the time of a block for a part."""
        mark = torch.profiler.record_function(part) if self._marks else contextlib.nullcontext()
        self._wait()
        began = time.perf_counter()
        self._inner.append(0.0)
        try:
            with mark:
                yield
                self._wait()
        finally:
            passed = time.perf_counter() - began
            own = passed - self._inner.pop()
            if self._inner:
                self._inner[-1] += passed
            self.seconds[part] = self.seconds.get(part, 0.0) + own


@contextlib.contextmanager
def stopwatch_on(task: ClassificationTask, stopwatch: Stopwatch) -> Iterator[None]:
    """Times the parts of the task's steps in a block; afterwards the task is as it was.

    Args:
        task: in a train phase, which lasts as long as the block.
        stopwatch: counts.
    """
    with contextlib.ExitStack() as undo:

        def replace(owner: Any, name: str, value: Any) -> None:
            own = vars(owner)
            undo.callback(own.__setitem__, name, own[name]) if name in own else undo.callback(own.pop, name)
            own[name] = value

        def time_method(owner: Any, name: str, part: str) -> None:
            replace(owner, name, stopwatch.timed(part, getattr(owner, name)))

        for name, part in (("compute_model", "forward"), ("compute_loss", "loss"), ("update_meters", "meters")):
            time_method(task, name, part)
        time_method(task.update_step, "run", "backward")
        for name in ("step", "zero_grad"):
            time_method(task.optimizer, name, "optimizer")
        for hook in task.hooks:
            time_method(hook, "on_step", "hooks")
        if task.mixup_transform is not None:
            replace(task, "mixup_transform", stopwatch.timed("mixup", task.mixup_transform))
        for module in (samples, device_batches):
            time_method(module, "recursive_copy_to_device", "transfer")
        iterator = task.data_iterator
        if isinstance(iterator, PhaseIterator):
            replace(iterator, "batches", stopwatch.waited("data", iterator.batches))
        else:
            time_method(classification_task, "next_sample", "data")
        yield
