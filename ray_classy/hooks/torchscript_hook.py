"""A hook that exports the trained model as TorchScript."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import torch
from torch import nn

from ray_classy.distributed import is_primary
from ray_classy.errors import ComponentError, FolderNotFoundError
from ray_classy.generic.util import eval_model, get_model_dummy_input
from ray_classy.hooks.classy_hook import ClassyHook, register_hook

TORCHSCRIPT_FILE = "torchscript.pt"

_log = logging.getLogger(__name__)


@register_hook("torchscript")
class TorchscriptHook(ClassyHook):
    """Writes the model as `torchscript.pt` when the run ends, in evaluation mode; `torch.jit.load` reads it.

    TorchScript is deprecated in torch, and the hook logs that: `torch.export` is its successor.

    Args:
        torchscript_folder: an existing folder, relative to the working directory.
        use_trace: trace the model with zeros of its `input_shape`; otherwise compile its code.
        trace_strict: whether tracing refuses models that return dicts and lists.
        device: the device on which the model is traced, and the one it is loaded on.

    Raises:
        ComponentError: `torchscript_folder` is not a path.
    """

    on_phase_start = on_step = on_phase_end = ClassyHook._noop

    def __init__(
        self, torchscript_folder: str, use_trace: bool = True, trace_strict: bool = True, device: str = "cpu"
    ) -> None:
        super().__init__()
        if not isinstance(torchscript_folder, str) or not torchscript_folder:
            raise ComponentError(f"torchscript_folder must be a path, not {torchscript_folder!r}")
        self.torchscript_folder = torchscript_folder
        self.use_trace = use_trace
        self.trace_strict = trace_strict
        self.device = device

    def on_start(self, task: Any) -> None:
        """Checks the folder.

        Raises:
            FolderNotFoundError: it does not exist.
        """
        if not is_primary():
            return
        _log.warning("TorchScript (the hook torchscript) is deprecated in torch: use torch.export.export instead")
        if not os.path.isdir(self.torchscript_folder):
            raise FolderNotFoundError(f"torchscript_folder {self.torchscript_folder!r} does not exist: make the folder")

    def on_end(self, task: Any) -> None:
        """Writes the file."""
        self.save_torchscript(task)

    def torchscript_using_trace(self, model: nn.Module) -> torch.jit.ScriptModule:
        """Traces a model with zeros."""
        shape = getattr(model, "input_shape", None)
        if shape is None:
            raise ComponentError(f"{type(model).__name__} has no input_shape to trace it with: set use_trace to false")
        sample = get_model_dummy_input(model, shape, getattr(model, "input_key", None))
        return torch.jit.trace(model, sample, strict=self.trace_strict)

    def torchscript_using_script(self, model: nn.Module) -> torch.jit.ScriptModule:
        """Compiles the code of a model."""
        return torch.jit.script(model)

    def save_torchscript(self, task: Any) -> None:
        """Writes the task's model; on the primary rank only."""
        if not is_primary():
            return
        model = task.base_model
        place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        convert = self.torchscript_using_trace if self.use_trace else self.torchscript_using_script
        with eval_model(model), torch.no_grad(), warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):  # of torch.jit; the hook has logged it
                warnings.simplefilter("ignore", category)
            try:
                script = convert(model.to(self.device))
            finally:
                model.to(place)
            torch.jit.save(script, os.path.join(self.torchscript_folder, TORCHSCRIPT_FILE))
