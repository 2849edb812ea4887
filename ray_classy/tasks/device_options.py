"""Sets a task up for its device: number formats, memory format, recomputation, parts of batches, compilation."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.distributed import is_primary
from ray_classy.errors import TaskError
from ray_classy.generic.util import get_batchsize_per_replica
from ray_classy.tasks.compilation import GraphCount
from ray_classy.tasks.image_size import resized, size_of_phase
from ray_classy.tasks.memory_format import reorder, reordered
from ray_classy.tasks.precision import NO_CONTEXT
from ray_classy.tasks.probes import Chosen, choose
from ray_classy.tasks.recomputation import RecomputedBlocks
from ray_classy.torch_compat import is_compiler_error

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask

_log = logging.getLogger(__name__)


class DeviceSetup:
    """The settings of a prepared task for its device. Before `prepare`, they have no effect.

    Attributes:
        memory_format: of the inputs and of the weights of convolutions.
        part_rows: most rows of a batch that are computed at once; None for all.
        chosen: what was found by trying; None if nothing was.
        image_size: longer side of the images of the current phase, in pixels; None for their own.
    """

    def __init__(self) -> None:
        self.memory_format = "contiguous"
        self.part_rows: int | None = None
        self.chosen: Chosen | None = None
        self.image_size: int | None = None
        self._recomputed: RecomputedBlocks | None = None
        self._graphs = GraphCount()

    def set_up(self, task: ClassificationTask) -> None:
        """Decides how the task computes, and reorders its model, which is on its device and not wrapped."""
        set_backends(task)
        if task.memory_format == "contiguous":
            reorder(task.base_model, "contiguous")  # an earlier training may have left it otherwise
        state = (task.checkpoint_dict or {}).get("classy_state_dict")
        stored = state.get("chosen") if isinstance(state, Mapping) else None  # a damaged one is refused later
        self.chosen = choose(task, stored)
        found = self.chosen or Chosen({})
        named = {"contiguous": "contiguous", "channels_last": "channels_last", "auto": "contiguous"}
        self.memory_format = found.memory_format or named[task.memory_format]
        self.part_rows = found.rows if task.batch == "auto" else task.batch
        if self.memory_format != "contiguous":
            reorder(task.base_model, self.memory_format)

    def compile(self, task: ClassificationTask) -> None:
        """Compiles model and loss, if the task's options ask for it."""
        if task.compilation is not None:
            task.compilation.compile(task.base_model, task.base_loss)
            self._graphs = GraphCount()

    def arranged(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Returns a batch with its inputs in the size of the phase and the memory format of the model."""
        if self.memory_format == "contiguous" and self.image_size is None:
            return sample
        return {**sample, "input": reordered(resized(sample["input"], self.image_size), self.memory_format)}

    def phase_started(self, task: ClassificationTask) -> None:
        """Evaluates the schedule of the image size for a train phase; test images have their own size."""
        self.image_size = size_of_phase(task, task.train_phase_idx) if task.train else None

    def splits(self, sample: dict[str, Any]) -> bool:
        """Whether a step computes a batch in parts."""
        return self.part_rows is not None and get_batchsize_per_replica(sample["target"]) > self.part_rows

    def recomputed(self, task: ClassificationTask) -> contextlib.AbstractContextManager[None]:
        """Returns the context of the forward pass of a train step."""
        if not task.gradient_checkpointing:
            return NO_CONTEXT
        if self._recomputed is None or self._recomputed.model is not task.base_model:
            self._recomputed = RecomputedBlocks(task.base_model)
        return self._recomputed.applied()

    def phase_ended(self, phase_type: str) -> None:
        """Warns of graphs that were compiled again in a phase; images of another size need some."""
        again = self._graphs.phase_ended(phase_type)
        if again and self.image_size is None and is_primary():
            _log.warning(
                "compile: %d graphs were compiled again in a %s phase, because inputs or options have changed; with "
                "TORCH_LOGS=recompiles torch says which",
                again,
                phase_type,
            )

    def state(self) -> dict[str, Any] | None:
        """Returns what a checkpoint keeps: what was chosen, as plain values."""
        return None if self.chosen is None else dataclasses.asdict(self.chosen)


def set_backends(task: ClassificationTask) -> None:
    """Sets the switches of torch that hold for the whole process, as far as the task's options name them."""
    if task.tf32 is not None:
        torch.set_float32_matmul_precision("high" if task.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = task.tf32
    if task.cudnn_benchmark is not None:
        torch.backends.cudnn.benchmark = task.cudnn_benchmark


def raise_explained(error: Exception) -> None:
    """Raises an error that names the key, if a step failed because model or loss cannot be compiled.

    Raises:
        TaskError: from `error`.
    """
    if is_compiler_error(error):
        first = (str(error).strip().splitlines() or [""])[0]
        raise TaskError(
            f"compile: the model or the loss cannot be compiled ({type(error).__name__}: {first}): leave compile out, "
            f"or set compile.backend to aot_eager, which needs no compiler on the machine"
        ) from error


def memory_remedy(task: ClassificationTask) -> str | None:
    """Returns what to set where memory ran out in a train step; None in a test phase."""
    if not task.train:
        return None
    rows = task.device_setup.part_rows or task.get_batchsize_per_replica()
    fewer = f"set batch to fewer rows, such as {max(1, rows // 2)}"
    if task.batch == "auto":
        return f"batch: auto found {rows} rows to fit when the run began: {fewer}"
    less = "" if task.gradient_checkpointing else ", or set gradient_checkpointing to true"
    if task.batch is not None:
        return f"batch is {rows}: {fewer}{less}"
    return f"set batch to auto, which computes the {rows} rows of a step in parts that fit{less}"
