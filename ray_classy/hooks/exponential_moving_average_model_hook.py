"""Exponential moving averages of the weights, for test phases."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ray_classy.distributed import broadcast
from ray_classy.errors import ArgumentTypeError, ComponentError, DamagedCheckpointError
from ray_classy.hooks.accumulation import inside_accumulation
from ray_classy.hooks.classy_hook import ClassyHook, register_hook

_log = logging.getLogger(__name__)


@register_hook("ema_model_weights")
class ExponentialMovingAverageModelHook(ClassyHook):
    """Keeps exponential moving averages of the weights, and tests the model with them.

    After each update of the weights w, or each n-th one, the averages a become decay * a + (1 - decay) * w (Tarvainen
    and Valpola, "Mean teachers are better role models", 2017, section 2); with float16 also after updates that the
    scaler skips. The model has the averages from the start of a test phase to the start of the next train phase, so a
    checkpoint written after a test phase has them as its model. A task whose attribute `ema` is false is tested with
    its weights.

    Args:
        decay: the weight of the previous average, in [0, 1].
        consider_bn_buffers: whether to average the statistics of batch-norm layers as well.
        device: where the averages are stored: "gpu", the model's device, or "cpu", for which each update waits for the
            GPU.
        update_every_n_steps: number of updates of the weights per update of the averages, at least 1. Over as many
            updates as with 1 and a decay d, the averages forget as much with n and a decay of 1 - n * (1 - d).

    Raises:
        ComponentError: an argument has an invalid value.
    """

    changes_weights = True
    on_end = ClassyHook._noop

    def __init__(
        self,
        decay: float,
        consider_bn_buffers: bool = True,
        device: Literal["cpu", "gpu"] = "gpu",
        update_every_n_steps: int = 1,
    ) -> None:
        super().__init__()
        if isinstance(decay, bool) or not isinstance(decay, int | float):
            raise ArgumentTypeError(f"decay must be a number in [0, 1], not {decay!r}")
        if not 0 <= decay <= 1:
            raise ComponentError(f"decay must be a number in [0, 1], not {decay!r}")
        if device not in ("cpu", "gpu"):
            raise ComponentError(f"device must be 'cpu' or 'gpu', not {device!r}")
        if type(update_every_n_steps) is not int or update_every_n_steps < 1:
            raise ComponentError(f"update_every_n_steps must be an integer of at least 1, not {update_every_n_steps!r}")
        self.decay = float(decay)
        self.update_every_n_steps = update_every_n_steps
        self.consider_bn_buffers = consider_bn_buffers
        self.device = device
        self.state.model_state = {}  # the weights, while the model has the averages
        self.state.ema_model_state = {}
        if update_every_n_steps > 1:
            self.state.updates = 0  # of the weights, since the last one of the averages
        self._average = get_ema_multi_avg_fn(self.decay)
        self._live: dict[str, torch.Tensor] = {}  # the model's tensors, in train phases

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_classy_state` returned."""
        for part in ("model_state", "ema_model_state"):
            tensors = state.get(part, {})
            if not isinstance(tensors, Mapping) or not all(isinstance(v, torch.Tensor) for v in tensors.values()):
                raise DamagedCheckpointError(
                    f"the checkpoint's state of hook {self.name()!r} is damaged: {part} does not hold tensors by name"
                )
        if type(state.get("updates", 0)) is not int:  # older checkpoints have none
            raise DamagedCheckpointError(f"the checkpoint's state of hook {self.name()!r} is damaged: updates")
        super().set_classy_state(state)

    def on_start(self, task: Any) -> None:
        """Starts with the weights, or with the averages in the checkpoint that the run resumes from."""
        live = dict(self.get_model_state_iterator(task.base_model))
        evaluates = task.test_only and task.loaded_checkpoint
        if task.num_updates == 0 and not evaluates:  # the hook has the state of another run
            self.state.model_state, self.state.ema_model_state = {}, {}
            if self.update_every_n_steps > 1:
                self.state.updates = 0
        weights, averages = (_fitting(state, live) for state in (self.state.model_state, self.state.ema_model_state))
        on_cpu = self.device == "cpu"
        self.state.model_state = {name: value.to(live[name].device) for name, value in weights.items()}
        self.state.ema_model_state = {
            name: averages.get(name, value).to("cpu" if on_cpu else value.device, copy=True)
            for name, value in live.items()
        }

    def get_model_state_iterator(self, model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields the tensors to average with their names: parameters and, if asked for, batch-norm statistics."""
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                yield name, parameter.detach()
        if self.consider_bn_buffers:
            yield from _statistics(model)

    def on_phase_start(self, task: Any) -> None:
        """Loads the averages into the model for a test phase, and its weights for a train phase."""
        if task.train:
            self.set_model_state(task, use_ema=False)
            self._live = dict(self.get_model_state_iterator(task.base_model))
        elif getattr(task, "ema", True):
            self.set_model_state(task, use_ema=True)

    def set_model_state(self, task: Any, use_ema: bool) -> None:
        """Loads the averages into the model, and keeps its weights; or loads these again.

        Args:
            task: has the model, as `base_model`.
            use_ema: load the averages. Nothing is done if the model has them already, or its weights.
        """
        if not use_ema:
            self._load(task.base_model, self.state.model_state)
            self.state.model_state = {}
        elif not self.state.model_state:
            live = dict(self.get_model_state_iterator(task.base_model))
            self.state.model_state = {name: value.clone() for name, value in live.items()}
            self._load(task.base_model, self.state.ema_model_state)
            if self.consider_bn_buffers:
                for _, value in _statistics(task.base_model):  # each rank has averaged its own
                    broadcast(value)

    def on_step(self, task: Any) -> None:
        """Updates the averages, if the step updated the weights and it is their turn."""
        if not task.train or inside_accumulation(task) or not self._is_turn():
            return
        averages = [self.state.ema_model_state[name] for name in self._live]
        now = [value.to(average.device) for value, average in zip(self._live.values(), averages, strict=True)]
        self._average(averages, now, 0)

    def _is_turn(self) -> bool:
        """Counts an update of the weights; returns whether the averages follow."""
        if self.update_every_n_steps == 1:
            return True
        self.state.updates = (self.state.updates + 1) % self.update_every_n_steps
        return self.state.updates == 0

    def on_phase_end(self, task: Any) -> None:
        """Releases the model's tensors."""
        self._live = {}

    @staticmethod
    def _load(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
        """Copies tensors into those of the model."""
        own = dict([*model.named_parameters(), *model.named_buffers(remove_duplicate=False)])
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)


def _fitting(state: dict[str, torch.Tensor], live: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the part of a state that the model has with the same shapes."""
    fitting = {name: value for name, value in state.items() if name in live and _alike(value, live[name])}
    if len(fitting) < len(state):
        _log.warning("only %d of the %d averaged tensors of the checkpoint fit the model", len(fitting), len(state))
    return fitting


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def _statistics(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields a model's batch-norm statistics, without the counters of batches."""
    for prefix, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            for name, buffer in layer.named_buffers(prefix, recurse=False):
                if buffer.is_floating_point():
                    yield name, buffer
