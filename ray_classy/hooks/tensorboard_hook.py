"""A hook that keeps a run in TensorBoard's event files, in the run's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray_classy.errors import UnavailableError
from ray_classy.hooks.classy_hook import register_hook
from ray_classy.hooks.run_logger_hook import LoggedRun, RunLoggerHook
from ray_classy.hooks.summary_writer import tb_available


@register_hook("tensorboard")
class TensorboardHook(RunLoggerHook):
    """Writes metrics of each phase, progress within phases and the config to TensorBoard's event files.

    Needs the extra `tensorboard`. The page HPARAMS has a row for each run, with its config and its final metrics. The
    files are in `tensorboard` in the run's folder, so that a run that is resumed continues its curves, and `tensorboard
    --logdir runs` shows all runs. (`tensorboard_plot` is the hook of Classy Vision, which also plots parameters.)

    Args:
        log_dir: another folder, for this run alone.

    Raises:
        UnavailableError: the package tensorboard is not installed.
    """

    def __init__(self, log_dir: str | None = None) -> None:
        super().__init__()
        if not tb_available:
            raise UnavailableError("the hook tensorboard needs its package: pip install 'ray_classy[tensorboard]'")
        self.log_dir = log_dir
        self._writer: Any = None

    def open(self, run: LoggedRun, id: str | None) -> str:
        """Opens another file in the folder; the curves before it stay."""
        from torch.utils.tensorboard import SummaryWriter

        self._config = {name: _plain(value) for name, value in run.config.items()}
        folder = self.log_dir or (os.path.join(run.path, "tensorboard") if run.path else os.path.join("runs", run.name))
        self._writer = SummaryWriter(folder)
        if id is None and run.config:
            rows = "\n".join(f"| {key} | {value} |" for key, value in run.config.items())
            self._writer.add_text("config", f"| key | value |\n| --- | --- |\n{rows}")
        return folder

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes values."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, status: str, final: Mapping[str, float]) -> None:
        """Writes the row of the run, and closes the file."""
        if final:
            metrics = {f"final/{name}": value for name, value in final.items()}
            self._writer.add_hparams(self._config, metrics, run_name=".")
        self._writer.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the writer, which belongs to this process."""
        return {**super().__getstate__(), "_writer": None}


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
