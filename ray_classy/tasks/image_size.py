"""Progressive resizing: training starts on small images, which cost less, and ends on images of the full size.

As in Touvron et al., "Fixing the train-test resolution discrepancy", 2019 (arXiv:1906.06423), and in the
ImageNet recipes of FFCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import interpolate

from ray_classy.errors import ComponentError
from ray_classy.optim.param_scheduler import ParamScheduler
from ray_classy.tasks.phases import where_of

if TYPE_CHECKING:
    from ray_classy.tasks.planned_task import PlannedTask

MULTIPLE = 16
"""Sizes are multiples of it, which suits the strides of networks and keeps the number of sizes small."""


def check_schedule(schedule: Any) -> ParamScheduler | None:
    """Returns a schedule of the image size if it is one, or None.

    Raises:
        ComponentError: it is no schedule, or one that needs the length of the training.
    """
    if schedule is not None and (not callable(schedule) or getattr(schedule, "needs_length", False)):
        raise ComponentError(
            f"image_size must be a schedule of `where`, such as {{name: linear, start_value: 128, end_value: 224}}, "
            f"not {schedule!r}"
        )
    return schedule


def size_of_phase(task: PlannedTask, train_phase: int) -> int | None:
    """Returns the longer side that images have in a train phase, in pixels; None for their own.

    Raises:
        ComponentError: the schedule gives no positive number.
    """
    if task.image_size is None:
        return None
    phases = sum(phase["train"] for phase in task.planned_phases())
    value = float(task.image_size(where_of(train_phase, phases)))
    size = round(value / MULTIPLE) * MULTIPLE
    if size < 1:
        raise ComponentError(f"image_size is {value:g} in train phase {train_phase}: it must be at least {MULTIPLE}")
    return size


def resized(inputs: Any, size: int | None) -> Any:
    """Returns a batch of images or clips whose longer side is at most `size`, with the same ratio of sides.

    Args:
        inputs: shape (N, ..., H, W), of floats; never enlarged. Anything else is returned as it is.
        size: in pixels; None leaves the images as they are.
    """
    is_images = isinstance(inputs, torch.Tensor) and inputs.ndim in (4, 5) and inputs.is_floating_point()
    if size is None or not is_images or max(inputs.shape[-2:]) <= size:
        return inputs
    height, width = inputs.shape[-2:]
    scale = size / max(height, width)
    new = max(1, round(height * scale)), max(1, round(width * scale))
    flat = inputs.reshape(-1, *inputs.shape[-3:]) if inputs.ndim == 4 else inputs.flatten(0, 1)
    small = interpolate(flat, new, mode="bilinear", antialias=True, align_corners=False)
    return small.reshape(*inputs.shape[:-2], *new)
