"""Divides the parameters that a task trains into the groups of its optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ray_classy.errors import ComponentError, TaskError
from ray_classy.optim.param_groups import Group


class Trained(NamedTuple):
    """A parameter that is trained.

    Attributes:
        name: in the model; those of a loss begin with `loss.`.
        parameter: itself.
        batch_norm: whether it belongs to a batch-norm layer.
        depth: returns the number of layers between the parameter and the model's output, 0 for a head.
    """

    name: str
    parameter: nn.Parameter
    batch_norm: bool
    depth: Callable[[], int]


def trained_parameters(model: nn.Module, loss: nn.Module | None = None) -> list[Trained]:
    """Returns the parameters that are trained, of the model and then of the loss; shared ones once."""

    @functools.cache
    def last_layer() -> int:
        layered: Any = model
        if not hasattr(model, "layer_of"):
            raise TaskError(f"layer_decay needs a ClassyModel, which has layers; a {type(model).__name__} has none")
        return len(layered.layer_groups()) - 1

    found: dict[nn.Parameter, Trained] = {}
    for prefix, root in (("", model), ("loss.", loss)):
        for path, module in root.named_modules() if root is not None else ():
            for own, parameter in module.named_parameters(path, recurse=False):
                if parameter.requires_grad and parameter not in found:
                    depth = functools.partial(_depth, model, own, last_layer) if root is model else int
                    found[parameter] = Trained(prefix + own, parameter, isinstance(module, _BatchNorm), depth)
    return list(found.values())


def _depth(model: Any, name: str, last_layer: Callable[[], int]) -> int:
    return last_layer() - model.layer_of(name)


class Choice(NamedTuple):
    """Options for some of the parameters of an optimizer.

    Attributes:
        lr_scale: factor for the learning rate.
        options: of the torch optimizer, by name, in place of its own and of schedules.
    """

    lr_scale: float = 1.0
    options: tuple[tuple[str, Any], ...] = ()


def make_groups(
    trained: Sequence[Trained],
    schedulers: Mapping[str, Any],
    bn_weight_decay: bool,
    layer_decay: float | None,
    choices: Sequence[Choice] | None = None,
) -> list[Group]:
    """Returns parameter groups: parameters with the same options; those of batch-norm layers after the others.

    A group whose learning rate is scaled has the factor as `lr_scale`. With a layer decay d the learning rate of a
    layer is d times that of the layer above it, and the heads have the whole one: the factor of layer k of n is
    d^(n - 1 - k) (Clark et al. 2020, arXiv:2003.10555; Bao et al. 2022, arXiv:2106.08254).

    Args:
        trained: the parameters.
        schedulers: schedules for all groups, by option.
        bn_weight_decay: whether parameters of batch-norm layers have weight decay.
        layer_decay: None for one learning rate.
        choices: the options of each parameter; None for none.
    """
    kinds: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    order: dict[Choice, int] = {}
    for index, one in enumerate(trained):
        choice = choices[index] if choices is not None else Choice()
        depth = one.depth() if layer_decay is not None else 0
        place = order.setdefault(choice, len(order))
        kinds.setdefault((place, -depth, one.batch_norm, choice), []).append(one.parameter)
    groups = []
    for kind in sorted(kinds, key=lambda kind: kind[:3]):
        _, height, batch_norm, choice = kind
        exempt = {"weight_decay": 0.0} if batch_norm and not bn_weight_decay else {}
        scale = choice.lr_scale * (layer_decay**-height if layer_decay is not None else 1.0)
        scaled = {"lr_scale": scale} if scale != 1 else {}
        groups.append({"params": kinds[kind], **schedulers, **exempt, **dict(choice.options), **scaled})
    return groups


def check_layer_decay(value: Any) -> float | None:
    """Returns a layer decay: a number in (0, 1], or None.

    Raises:
        ComponentError: it is something else.
    """
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1):
        return value
    raise ComponentError(f"layer_decay must be a number above 0 and up to 1, such as 0.75, not {value!r}")
