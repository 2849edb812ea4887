"""Finds by trying what a device can do: the rows that fit into its memory, and the faster order of pixels.

The model is tried on rows of the train dataset before it is wrapped for distributed training, so that no rank waits for
another. All ranks then agree, and the checkpoint keeps what they agreed on: a run that is resumed on the same kind of
device does not try again.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.distributed import all_reduce_min, all_reduce_sum, broadcast_object, get_world_size, is_primary
from ray_classy.errors import RayClassyError, TaskError
from ray_classy.generic.copies import copied
from ray_classy.generic.util import map_tensors, recursive_copy_to_device
from ray_classy.memory import is_out_of_memory
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.tasks.memory_format import has_formats, reorder, reordered
from ray_classy.tasks.precision import autocast
from ray_classy.tasks.small_batch import small_batch
from ray_classy.tasks.try_step import as_it_was, mixed

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask

_log = logging.getLogger(__name__)

_WORTH = 1.05
"""How many times as fast `channels_last` must be to be chosen: less may be noise."""
_TIMED, _ROWS_TIMED = 3, 64
_FREE = 0.05
"""Share of a GPU's memory that is left free, because allocations of later steps lie differently."""


@dataclass(frozen=True)
class Chosen:
    """The choices of a run where its config says "auto".

    Attributes:
        tried_on: what the choice depends on: device, shape of an input, precision, recomputation.
        memory_format: "contiguous" or "channels_last"; None if the config names one.
        rows: rows of a part of a batch; None if the config names a number, or none.
    """

    tried_on: dict[str, Any]
    memory_format: str | None = None
    rows: int | None = None


def choose(task: ClassificationTask, stored: Any) -> Chosen | None:
    """Returns what all ranks use where the task's options say "auto"; None if none does. Every rank must call it.

    Args:
        task: its model is on its device, and not wrapped.
        stored: what the checkpoint to resume from has; None without one.

    Raises:
        TaskError: no row fits into the memory, or the rows cannot be read. Every rank raises it if one does.
    """
    formats, rows = task.memory_format == "auto" and has_formats(task.base_model), task.batch == "auto"
    if task.test_only or not (formats or rows):
        return None
    key = "batch" if rows else "memory_format"
    sample = _agreed(lambda: recursive_copy_to_device(_rows_of(task, key), False, task.device))
    tried_on = _conditions(task, sample)
    before = broadcast_object(stored)
    if isinstance(before, dict) and before.get("tried_on") == tried_on:
        known = Chosen(tried_on, before.get("memory_format"), before.get("rows"))
        if (known.memory_format is not None or not formats) and (known.rows is not None or not rows):
            return known
    with _trying(task):
        order = _faster_format(task, sample) if formats else None
        if order is not None:
            reorder(task.base_model, order)
        fitting = _most_rows(task, sample, order or "contiguous") if rows else None
    chosen = Chosen(tried_on, order, fitting)
    if is_primary():
        _log.info("chosen by trying on %s: %s", tried_on["device"], _text(chosen, task))
    return chosen


def _text(chosen: Chosen, task: ClassificationTask) -> str:
    what = [] if chosen.memory_format is None else [f"memory_format {chosen.memory_format}"]
    if chosen.rows is not None:
        size = task.datasets["train"].get_batchsize_per_replica()
        fits = f"batch {chosen.rows}" if chosen.rows < size else f"batch {size}, which is a whole batch"
        what.append(fits)
    return ", ".join(what)


def _conditions(task: ClassificationTask, sample: dict[str, Any]) -> dict[str, Any]:
    """Returns what the choices depend on, as plain values; the same on all ranks, which follow the first one."""
    inputs, precision = sample["input"], task.precision
    name = torch.cuda.get_device_name(task.device) if task.device.type == "cuda" else "cpu"
    conditions = {
        "device": name,
        "input": list(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else None,
        "dtype": precision.dtype if precision is not None and precision.works_on(task.device) else "float32",
        "gradient_checkpointing": task.gradient_checkpointing,
    }
    return broadcast_object(conditions)


def _rows_of(task: ClassificationTask, key: str) -> dict[str, Any]:
    try:
        sample = small_batch(task, "train", task.datasets["train"])
        return sample if task.mixup_transform is None else mixed(task, sample)
    except RayClassyError:
        raise
    except Exception as error:
        raise TaskError(
            f"{key}: auto tries the model on rows of the train dataset, and they cannot be read before training "
            f"({type(error).__name__}: {error}): set {key} to one of its other values"
        ) from error


def _agreed(function: Callable[[], Any]) -> Any:
    """Returns what a function returns on this rank; if it fails on any rank, all raise an error."""
    result: Any = None
    failed: Exception | None = None
    try:
        result = function()
    except Exception as error:
        failed = error
    if not bool(all_reduce_min(torch.tensor(int(failed is None)))):
        raise failed if failed is not None else TaskError("another rank could not try the model: see its error")
    return result


@contextlib.contextmanager
def _trying(task: ClassificationTask) -> Any:
    """Leaves the task and the generators as they were, and no gradients and no memory behind."""
    cuda = [task.device] if task.device.type == "cuda" else []
    with host_rng_kept(), torch.random.fork_rng(devices=cuda), as_it_was(task, task.device, copied(task.base_loss), []):
        seed_host(derive_seed(task.seed))
        task._freeze()
        task.train = True
        task._set_model_train_mode()
        yield
    _release(task.device)


def _release(device: torch.device) -> None:
    gc.collect()  # an error's traceback holds tensors
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _repeated(sample: dict[str, Any], rows: int) -> dict[str, Any]:
    """Returns a batch of so many rows, which are those of the sample over and over."""

    def repeat(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[torch.arange(rows, device=tensor.device) % len(tensor)] if tensor.ndim else tensor

    return map_tensors(sample, repeat)


def _step(task: ClassificationTask, sample: dict[str, Any]) -> None:
    """Runs forward and backward pass."""
    with torch.enable_grad(), autocast(task.precision, task.device), task.device_setup.recomputed(task):
        loss = task.compute_loss(task.compute_model(sample), sample)
    loss.backward()
    for parameter in task.base_model.parameters():
        parameter.grad = None


def _batch(sample: dict[str, Any], rows: int, memory_format: str) -> dict[str, Any]:
    batch = _repeated(sample, rows)
    return {**batch, "input": reordered(batch["input"], memory_format)}


# -- the order of pixels ----------------------------------------------------------------------------------------------


def _faster_format(task: ClassificationTask, sample: dict[str, Any]) -> str:
    """Returns the faster of the two formats over all ranks."""
    rows = min(task.datasets["train"].get_batchsize_per_replica(), _ROWS_TIMED)

    def fit(rows: int) -> bool:
        return fits(lambda: _step(task, _batch(sample, rows, "contiguous")), task.device)

    while rows > 1 and not fit(rows):
        rows //= 2
    seconds = []
    for order in ("contiguous", "channels_last"):
        reorder(task.base_model, order)
        seconds.append(_seconds(task, _batch(sample, rows, order)))
    reorder(task.base_model, "contiguous")
    plain, last = all_reduce_sum(torch.tensor(seconds, dtype=torch.float64)).tolist()
    return "channels_last" if last * _WORTH < plain else "contiguous"


def _seconds(task: ClassificationTask, batch: dict[str, Any]) -> float:
    """Returns the time of the fastest of a few steps; infinite if the memory is too small."""
    if not fits(lambda: _step(task, batch), task.device):
        return math.inf
    best = math.inf
    for _ in range(_TIMED):
        _wait(task.device)
        began = time.perf_counter()
        _step(task, batch)
        _wait(task.device)
        best = min(best, time.perf_counter() - began)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# -- the rows that fit ------------------------------------------------------------------------------------------------


def fits(function: Callable[[], Any], device: torch.device) -> bool:
    """Calls a function, and returns whether the memory was large enough for it; other errors are raised."""
    try:
        function()
        return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    _release(device)
    return False


def _most_rows(task: ClassificationTask, sample: dict[str, Any], memory_format: str) -> int:
    """Returns the most rows that every rank can train on at once, up to a whole batch.

    Raises:
        TaskError: not even one row fits on one of them.
    """
    whole = task.datasets["train"].get_batchsize_per_replica()

    def fit(rows: int) -> bool:
        return fits(lambda: _step(task, _batch(sample, rows, memory_format)), task.device)

    with _reserved(task):
        rows = _agreed(lambda: whole if fit(whole) else largest(fit, whole))
    rows = int(all_reduce_min(torch.tensor(rows)))
    if rows == 0:
        raise TaskError(
            "batch: auto finds no number of rows that fits: a train step of one row needs more memory than there is. "
            "Use smaller images or a smaller model, gradient_checkpointing: true, or mixed precision (amp_args)"
        )
    return rows


def largest(fit: Callable[[int], bool], too_many: int) -> int:
    """Returns the largest number below `too_many` that fits, by bisection; 0 if not even 1 does."""
    low, high = 0, too_many
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low


@contextlib.contextmanager
def _reserved(task: ClassificationTask) -> Any:
    """Occupies the memory of a GPU that a train step needs besides activations and gradients.

    That is the state of the optimizer (two numbers per parameter, as for Adam), the buckets of DistributedDataParallel,
    and the copies of hooks that average weights.
    """
    held = []
    if task.device.type == "cuda":
        size = sum(p.numel() * p.element_size() for p in task.base_model.parameters() if p.requires_grad)
        copies = 2 + (get_world_size() > 1) + sum(hook.changes_weights for hook in task.hooks)
        total = torch.cuda.get_device_properties(task.device).total_memory
        wanted = int(copies * size + _FREE * total)
        fits(lambda: held.append(torch.empty(wanted, dtype=torch.uint8, device=task.device)), task.device)
    try:
        yield
    finally:
        held.clear()
