"""The base of losses, their registry, and the uniform questions a task asks of any loss module."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import loss as torch_losses

from ray_classy.errors import CheckpointError
from ray_classy.registry import Registry, constructor_arguments, reads_signature

TENSOR_ARGUMENTS = ("weight", "pos_weight")
"""Arguments of torch's losses that are tensors; a config gives them as lists."""


def _torch_loss_names() -> list[str]:
    return [
        name
        for name, value in vars(torch_losses).items()
        if not name.startswith("_") and inspect.isclass(value) and value.__module__ == torch_losses.__name__
    ]


def _torch_loss(name: str) -> type | None:
    return getattr(torch_losses, name) if name in _torch_loss_names() else None


LOSS_REGISTRY: Registry[Any] = Registry(
    "loss",
    {
        "label_smoothing_cross_entropy": "ray_classy.losses.label_smoothing_loss:LabelSmoothingCrossEntropyLoss",
        "soft_target_cross_entropy": "ray_classy.losses.soft_target_cross_entropy_loss:SoftTargetCrossEntropyLoss",
    },
    fallback=_torch_loss,
    fallback_names=_torch_loss_names,
)
register_loss = LOSS_REGISTRY.register


class ClassyLoss(nn.Module):
    """A loss that is built from a config and whose state is part of a checkpoint."""

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyLoss:
        """Builds the loss from its config: the constructor's arguments by name."""
        return cls(**constructor_arguments(cls, config))

    def forward(self, output: Any, target: Any) -> torch.Tensor:
        """The loss of `output`, what the model returned, against `target`, what the batch holds."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(output, target)")

    def get_classy_state(self) -> dict[str, Any]:
        """The parameters and buffers by name."""
        return self.state_dict()

    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_classy_state` gave.

        Raises:
            CheckpointError: the names or shapes in `state` are not those of this loss.
        """
        _load(self, state)

    def has_learned_parameters(self) -> bool:
        """Whether the loss has parameters that the optimizer must train."""
        return has_learned_parameters(self)


LOSS_REGISTRY.base = ClassyLoss


def build_loss(config: Mapping[str, Any]) -> nn.Module:
    """Builds a loss from a config.

    Args:
        config: `name` is a registered name or a class of `torch.nn.modules.loss` ("CrossEntropyLoss"); the other keys
            are its arguments. The tensor arguments of torch's losses (`weight`, `pos_weight`) are given as lists.

    Raises:
        UnknownComponentError: there is no such loss.
    """
    cls = LOSS_REGISTRY.named_class(config)
    if hasattr(cls, "from_config"):
        return cls.from_config(copy.deepcopy(dict(config)))
    arguments = constructor_arguments(cls, config)
    for name in TENSOR_ARGUMENTS:
        if isinstance(arguments.get(name), (list, tuple)):
            arguments[name] = torch.tensor(arguments[name], dtype=torch.float32)
    return cls(**arguments)


def has_learned_parameters(loss: nn.Module) -> bool:
    """Whether any loss module, torch's own included, has parameters that the optimizer must train."""
    return any(parameter.requires_grad for parameter in loss.parameters())


def get_loss_state(loss: nn.Module) -> dict[str, Any]:
    """The state of any loss module for a checkpoint.

    The buffers of torch's own losses (class weights) are options, which come from the config; those of other modules
    are state, unless they are registered with `persistent=False`.
    """
    if isinstance(loss, ClassyLoss):
        return loss.get_classy_state()
    return {} if type(loss).__module__ == torch_losses.__name__ else loss.state_dict()


def set_loss_state(loss: nn.Module, state: dict[str, Any]) -> None:
    """Restores what `get_loss_state` gave.

    Raises:
        CheckpointError: the names or shapes in `state` are not those of this loss.
    """
    if isinstance(loss, ClassyLoss):
        loss.set_classy_state(state)
    elif type(loss).__module__ != torch_losses.__name__ and (state or has_learned_parameters(loss)):
        _load(loss, state)


def _load(loss: nn.Module, state: dict[str, Any]) -> None:
    try:
        loss.load_state_dict(state)
    except RuntimeError as error:
        what = "; ".join(line.strip(" \t.") for line in str(error).splitlines()[1:])
        raise CheckpointError(
            f"the checkpoint's loss does not fit {type(loss).__name__}: {what or error}. Go on with the loss of "
            f"then, or load only the model of the checkpoint"
        ) from error
