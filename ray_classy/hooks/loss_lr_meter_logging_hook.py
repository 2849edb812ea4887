"""A hook that logs progress, loss, meters and learning rate."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ray_classy.display import rates_text
from ray_classy.distributed import is_primary
from ray_classy.errors import ComponentError
from ray_classy.hooks.classy_hook import ClassyHook, register_hook
from ray_classy.meters.classy_meter import scalars

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask

_log = logging.getLogger(__name__)


@register_hook("loss_lr_meter_logging")
class LossLrMeterLoggingHook(ClassyHook):
    """Logs loss, meters and learning rate at the end of each phase, and every `log_freq` steps of train phases.

    Reading the loss waits for the device, so training waits for it once a line.

    Args:
        log_freq: the number of train steps between two lines; None logs at phase ends only.

    Raises:
        ComponentError: `log_freq` is not a positive integer.
    """

    on_phase_start = ClassyHook._noop
    on_end = ClassyHook._noop

    def __init__(self, log_freq: int | None = None) -> None:
        super().__init__()
        if log_freq is not None and (type(log_freq) is not int or log_freq < 1):
            raise ComponentError(f"log_freq must be an integer of at least 1 or null, not {log_freq!r}")
        self.log_freq = log_freq

    def on_start(self, task: Any) -> None:
        """Logs the task in full."""
        if is_primary():
            _log.debug("starting task %r", task)

    def on_step(self, task: Any) -> None:
        """Logs a line every `log_freq` train steps."""
        if self.log_freq is None or not task.train:
            return
        steps = len(task.losses)
        if steps and steps % self.log_freq == 0:
            task.check_inf_nan()
            self._log_loss_lr_meters(task, log_batches=True)

    def on_phase_end(self, task: Any) -> None:
        """Logs the line of the phase."""
        self._log_loss_lr_meters(task)

    def _log_loss_lr_meters(self, task: ClassificationTask, prefix: str = "", log_batches: bool = False) -> None:
        """Logs one line.

        Args:
            task: in or at the end of a phase.
            prefix: text before the line.
            log_batches: log the number of the step, and the mean loss over the last `log_freq` steps; otherwise the
                number of steps, and the mean loss over all of them.
        """
        if not is_primary():
            return
        steps, last = f"{len(task.losses)} steps", None
        if log_batches:
            steps, last = f"step {len(task.losses)}/{task.num_batches_per_phase}", self.log_freq
        number = task.train_phase_idx if task.train else task.eval_phase_idx
        parts = [f"{prefix}{task.phase_type} {number + 1}", steps, f"loss {task.losses.row_mean(last):.4f}"]
        for meter in task.meters:
            parts += [f"{meter.name}.{key} {value:.4f}" for key, value in scalars(meter.value).items()]
        if task.train and task.optimizer is not None and task.optimizer.last_lr:
            parts.append(f"lr {rates_text(task.optimizer.last_lr)}")
        speeds = [entry["im_per_sec"] for entry in task.perf_log if entry["tag"] == task.phase_type]
        if speeds:
            parts.append(f"{speeds[-1]:.0f} samples/s")
        parts.append(f"{task.where:.0%} done")
        _log.info("  ".join(parts))
