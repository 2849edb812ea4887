"""The base class of losses, their registry, and functions that treat losses of torch and of this package alike."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import loss as torch_losses

from ray_classy.errors import CheckpointError, ComponentError, ConfigError
from ray_classy.registry import Registry, construct, construct_from, constructor_arguments, reads_signature

TENSOR_ARGUMENTS = ("weight", "pos_weight")
"""Arguments of torch's losses that are tensors; a config writes them as lists."""


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
        "asymmetric": "ray_classy.losses.asymmetric_loss:AsymmetricLoss",
        "barron": "ray_classy.losses.barron_loss:BarronLoss",
        "binary_cross_entropy": "ray_classy.losses.binary_cross_entropy_loss:BinaryCrossEntropyLoss",
        "focal": "ray_classy.losses.focal_loss:FocalLoss",
        "label_smoothing_cross_entropy": "ray_classy.losses.label_smoothing_loss:LabelSmoothingCrossEntropyLoss",
        "multi_output_sum_loss": "ray_classy.losses.multi_output_sum_loss:MultiOutputSumLoss",
        "multi_target": "ray_classy.losses.multi_target_loss:MultiTargetLoss",
        "soft_target_cross_entropy": "ray_classy.losses.soft_target_cross_entropy_loss:SoftTargetCrossEntropyLoss",
        "sum_arbitrary": "ray_classy.losses.sum_arbitrary_loss:SumArbitraryLoss",
    },
    fallback=_torch_loss,
    fallback_names=_torch_loss_names,
)
register_loss = LOSS_REGISTRY.register


class ClassyLoss(nn.Module):
    """A loss that is built from a config and whose state is part of a checkpoint.

    A loss is the mean over the rows of a batch. If its mean divides by something else than their number, such as a sum
    of class weights, it also has a method `weight_of(output, target)`, which returns that as a scalar tensor on the
    device, 0 if no row counts. Then batches of any size, accumulated or on several ranks, give the same update and the
    same mean loss.
    """

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyLoss:
        """Builds the loss from its config: the constructor's arguments by name."""
        return construct(cls, config)

    def forward(self, output: Any, target: Any) -> torch.Tensor:
        """Computes the loss of the model's output against the target of the batch."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(output, target)")

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the parameters and buffers by name."""
        return self.state_dict()

    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_classy_state` returned.

        Raises:
            CheckpointError: the names or shapes in `state` differ from those of this loss.
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
            are its arguments. The tensor arguments of torch's losses (`weight`, `pos_weight`) are written as lists.

    Raises:
        UnknownComponentError: no loss has that name.
        ComponentError: a tensor argument is not a list of numbers of at least 0.
    """
    cls = LOSS_REGISTRY.named_class(config)
    if hasattr(cls, "from_config"):
        return cls.from_config(copy.deepcopy(dict(config)))
    arguments = constructor_arguments(cls, config)
    for name in TENSOR_ARGUMENTS:
        if arguments.get(name) is not None:
            arguments[name] = weights_tensor(name, arguments[name])
    return construct_from(cls, arguments, config["name"])


def check_loss_config(config: Mapping[str, Any], key: str) -> None:
    """Raises a ConfigError unless the config of a loss has the config of another one under `key`."""
    if not isinstance(config.get(key), Mapping):
        raise ConfigError(
            f"`{key}` of {config.get('name', 'the loss')!r} must be the config of a loss, such as "
            f"{{'name': 'CrossEntropyLoss'}}, not {config.get(key)!r}"
        )


def weights_tensor(name: str, value: Any) -> torch.Tensor:
    """Converts a tensor argument, a list of numbers in a config, to a tensor.

    Raises:
        ComponentError: it is not a list of finite numbers of at least 0.
    """
    if isinstance(value, str) and value == "balanced":
        raise ComponentError(
            f"{name}: balanced is counted in the train dataset when a task is built from a config; elsewhere list the "
            f"weights"
        )
    try:
        if not isinstance(value, list | tuple | torch.Tensor) or not len(value):
            raise TypeError
        weights = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ComponentError(
            f"{name} must be a list of numbers, one per class, such as [1.0, 2.5], not {value!r}"
        ) from None
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ComponentError(f"{name} must be a list of finite numbers of at least 0, not {value!r}")
    return weights


def has_learned_parameters(loss: nn.Module) -> bool:
    """Whether a loss module, torch's own included, has parameters that the optimizer must train."""
    return any(parameter.requires_grad for parameter in loss.parameters())


def get_loss_state(loss: nn.Module) -> dict[str, Any]:
    """Returns the state of any loss module for a checkpoint.

    The buffers of torch's own losses (class weights) are left out, for they are options in the config. The buffers of
    other modules are state, unless they are registered with `persistent=False`.
    """
    if isinstance(loss, ClassyLoss):
        return loss.get_classy_state()
    return {} if _has_options_only(loss) else loss.state_dict()


def set_loss_state(loss: nn.Module, state: dict[str, Any]) -> None:
    """Restores what `get_loss_state` returned.

    Raises:
        CheckpointError: the names or shapes in `state` differ from those of this loss.
    """
    if isinstance(loss, ClassyLoss):
        loss.set_classy_state(state)
    elif not _has_options_only(loss) and (state or has_learned_parameters(loss)):
        _load(loss, state)


def _has_options_only(loss: nn.Module) -> bool:
    return type(loss).__module__ == torch_losses.__name__ and not has_learned_parameters(loss)


def _load(loss: nn.Module, state: dict[str, Any]) -> None:
    try:
        loss.load_state_dict(state)
    except RuntimeError as error:
        what = "; ".join(line.strip(" \t.") for line in str(error).splitlines()[1:])
        raise CheckpointError(
            f"the checkpoint's loss does not fit {type(loss).__name__}: {what or error}. Resume with the loss "
            f"of the checkpoint, or load only its model"
        ) from error
