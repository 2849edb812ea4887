"""A hook that plots a run in tensorboard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.distributed import all_reduce_max, is_primary
from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.hooks.classy_hook import ClassyHook, register_hook
from ray_classy.hooks.summary_writer import SummaryWriterHook
from ray_classy.hooks.summary_writer import tb_available as tb_available
from ray_classy.meters.classy_meter import scalars
from ray_classy.registry import Key, Keys


@register_hook("tensorboard_plot")
class TensorboardPlotHook(SummaryWriterHook):
    """Plots learning rate, loss, meters, parameters, speed and GPU memory in tensorboard; the primary rank writes.

    Scalars and their steps: `Learning Rate/train` and `Speed/{phase}/cumulative_sample_fetch_time` (seconds) by the
    number of steps of that phase type so far; `Losses/{phase}`, `Meters/{phase}/{meter}/{key}`,
    `Memory/{phase}/peak_allocated` (bytes, the largest of all ranks) and `Speed/{tag}/im_per_sec` by the number of the
    phase. Histograms `Parameters/{name}` are written at the start and after each train phase. Nothing is fetched from
    the device within a phase.

    Args:
        tb_writer: a `torch.utils.tensorboard.SummaryWriter`; in a config, its arguments under `summary_writer`.
        log_period: steps between two values of the learning rate and of the fetch time, at least 1.

    Raises:
        ComponentError: `log_period` is not a positive integer.
    """

    def __init__(self, tb_writer: Any, log_period: int = 10) -> None:
        super().__init__(tb_writer)
        if type(log_period) is not int:
            raise ArgumentTypeError(f"log_period must be an integer of at least 1, not {log_period!r}")
        if log_period < 1:
            raise ComponentError(f"log_period must be an integer of at least 1, not {log_period!r}")
        self.log_period = log_period
        self.state.step_count = {"train": 0, "test": 0}
        self.state.cum_sample_fetch_time = {"train": 0.0, "test": 0.0}
        self._step = 0  # of the current phase

    @classmethod
    def config_keys(cls) -> Keys:
        """The keys of the hook's config."""
        return {
            "summary_writer": Key(dict[str, Any], doc="arguments of a `SummaryWriter`, such as log_dir."),
            "log_period": Key(int, 10),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TensorboardPlotHook:
        """Builds the hook; its writer is opened when the run starts."""
        return cls(cls._plan(config), config.get("log_period", 10))

    def on_start(self, task: Any) -> None:
        """Writes the task, and the parameters that it starts with."""
        if is_primary():
            self.tb_writer.add_text("Task", f"{task}")
            self._add_parameters(task, -1)

    def on_phase_start(self, task: Any) -> None:
        """Starts counting the steps of the phase, and its GPU memory."""
        self._step = task.steps_in_phase
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_step(self, task: Any) -> None:
        """Writes learning rate and fetch time, every `log_period` steps."""
        kind = task.phase_type
        step_data = getattr(getattr(task, "last_batch", None), "step_data", None) or {}
        fetch_time = step_data.get("sample_fetch_time")
        self.state.step_count[kind] += 1
        self.state.cum_sample_fetch_time[kind] += fetch_time or 0.0
        first, self._step = self._step % self.log_period == 0, self._step + 1
        if not first or not is_primary():
            return
        where = {"global_step": self.state.step_count[kind], "walltime": time.time()}
        if fetch_time is not None:
            total = self.state.cum_sample_fetch_time[kind]
            self.tb_writer.add_scalar(f"Speed/{kind}/cumulative_sample_fetch_time", total, **where)
        optimizer = getattr(task, "optimizer", None)
        if task.train and optimizer is not None:
            lr = optimizer.options_view.lr
            self.tb_writer.add_scalar(f"Learning Rate/{kind}", lr[0] if isinstance(lr, list) else lr, **where)

    def on_phase_end(self, task: Any) -> None:
        """Writes what the phase measured."""
        kind = task.phase_type
        number = task.train_phase_idx if task.train else task.phase_idx - task.train_phase_idx - 1
        peak = _peak_memory()
        if not is_primary():
            return
        if task.train:
            self._add_parameters(task, number)
        if peak is not None:
            self.tb_writer.add_scalar(f"Memory/{kind}/peak_allocated", peak, global_step=number)
        metrics = task.phase_metrics()
        loss = metrics.pop("loss", None)
        if loss is not None:
            self.tb_writer.add_scalar(f"Losses/{kind}", loss, global_step=number)
        for meter, values in metrics.items():
            for key, value in scalars(values).items():
                self.tb_writer.add_scalar(f"Meters/{kind}/{meter}/{key}", value, global_step=number)
        for entry in task.perf_log:
            tag = f"Speed/{entry['tag']}/im_per_sec"
            self.tb_writer.add_scalar(tag, entry["im_per_sec"], global_step=entry["phase_idx"])
        self.tb_writer.flush()

    on_end = ClassyHook._noop

    def _add_parameters(self, task: Any, step: int) -> None:
        for name, parameter in task.base_model.named_parameters() if task.base_model is not None else ():
            self.tb_writer.add_histogram(f"Parameters/{name}", parameter, global_step=step)


def _peak_memory() -> float | None:
    """Returns the peak of the GPU memory of a phase in bytes, the largest of all ranks; None without GPUs."""
    if not torch.cuda.is_available():
        return None
    return float(all_reduce_max(torch.tensor(torch.cuda.max_memory_allocated(), dtype=torch.float64)))
