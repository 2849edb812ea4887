"""A hook that draws the model's graph in tensorboard."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.distributed import is_primary
from ray_classy.generic.visualize import plot_model
from ray_classy.hooks.classy_hook import ClassyHook, register_hook
from ray_classy.hooks.summary_writer import SummaryWriterHook
from ray_classy.hooks.summary_writer import tb_available as tb_available
from ray_classy.registry import Key, Keys

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask

_log = logging.getLogger(__name__)


@register_hook("model_tensorboard")
class ModelTensorboardHook(SummaryWriterHook):
    """Writes the graph of the model to tensorboard when the run starts.

    A model that cannot be traced, or that does not say the shape of its input, is logged and left out.

    Args:
        tb_writer: a `torch.utils.tensorboard.SummaryWriter`; in a config, its arguments under `summary_writer`.
    """

    on_phase_start = on_step = on_phase_end = on_end = ClassyHook._noop

    @classmethod
    def config_keys(cls) -> Keys:
        """The keys of the hook's config."""
        return {"summary_writer": Key(dict[str, Any], doc="arguments of a `SummaryWriter`, such as log_dir.")}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelTensorboardHook:
        """Builds the hook; its writer is opened when the run starts."""
        return cls(cls._plan(config))

    def on_start(self, task: ClassyTask) -> None:
        """Writes the graph."""
        if not is_primary():
            return
        model, writer = task.base_model, self.tb_writer
        try:
            key = getattr(model, "input_key", None)
            plot_model(model, size=model.input_shape, input_key=key, writer=writer)
        except Exception as error:  # of whatever the tracer and the model's own code raise
            _log.warning("the graph of the model is not drawn: %s: %s", type(error).__name__, error)
