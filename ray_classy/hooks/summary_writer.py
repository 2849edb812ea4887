"""Writers of tensorboard's event files, opened in the process that writes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from ray_classy.errors import ArgumentNameError, ArgumentTypeError, ConfigError, UnavailableError
from ray_classy.hooks.classy_hook import ClassyHook
from ray_classy.registry import nearest

tb_available = importlib.util.find_spec("tensorboard") is not None
"""Whether the package that writes event files is installed."""

_ARGUMENTS = ("log_dir", "comment", "purge_step", "max_queue", "flush_secs", "filename_suffix")


class WriterPlan:
    """The arguments of a `torch.utils.tensorboard.SummaryWriter` that is opened later, on the primary rank.

    Args:
        arguments: of SummaryWriter, by name; without `log_dir` it chooses a folder in `runs`.

    Raises:
        UnavailableError: the package tensorboard is not installed.
        ArgumentNameError: SummaryWriter has no argument of a name.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        if not tb_available:
            raise UnavailableError(
                "tensorboard's event files need its package, which is not installed: "
                "pip install 'ray_classy[tensorboard]', or leave out the hooks tensorboard_plot and model_tensorboard"
            )
        for name in arguments:
            if name not in _ARGUMENTS:
                near = nearest(str(name), list(_ARGUMENTS))
                hint = f"did you mean {near}?" if near else f"it has {', '.join(_ARGUMENTS)}"
                raise ArgumentNameError(f"summary_writer: SummaryWriter has no argument {name!r}; {hint}")
        self.arguments = dict(arguments)

    def open(self) -> Any:
        """Opens the writer, which makes its folder and a file in it."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self.arguments)


class SummaryWriterHook(ClassyHook):
    """Base of hooks that write to tensorboard.

    Args:
        tb_writer: a `torch.utils.tensorboard.SummaryWriter`, or what has its methods. A pickled or copied hook opens a
            writer for the same folder.
    """

    def __init__(self, tb_writer: Any) -> None:
        super().__init__()
        self._writer = tb_writer
        self._arguments: dict[str, Any] = {}  # with which it was opened

    @classmethod
    def _plan(cls, config: Mapping[str, Any]) -> WriterPlan:
        """Returns the plan of the writer that a config describes under `summary_writer`."""
        if "summary_writer" not in config:
            raise ConfigError("summary_writer is missing: give the arguments of SummaryWriter, such as {log_dir: DIR}")
        if not isinstance(config["summary_writer"], Mapping):
            raise ArgumentTypeError(f"summary_writer must be a mapping, not {config['summary_writer']!r}")
        return WriterPlan(config["summary_writer"])

    @property
    def tb_writer(self) -> Any:
        """The writer; used on the primary rank only."""
        if isinstance(self._writer, WriterPlan):
            self._arguments = self._writer.arguments
            self._writer = self._writer.open()
        return self._writer

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the writer, whose file and thread belong to this process."""
        folder = getattr(self._writer, "log_dir", None)
        if isinstance(self._writer, WriterPlan) or not isinstance(folder, str | os.PathLike):
            return self.__dict__
        return {**self.__dict__, "_writer": WriterPlan({**self._arguments, "log_dir": os.fspath(folder)})}
