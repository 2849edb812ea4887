"""The optimizers of `torch.optim`, by the names of their classes."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch

from ray_classy import torch_compat
from ray_classy.errors import ArgumentTypeError, ComponentError, UnknownComponentError
from ray_classy.optim.classy_optimizer import HOW_IT_RUNS, ClassyOptimizer
from ray_classy.optim.implementation import IMPLEMENTATIONS
from ray_classy.optim.param_groups import Group
from ray_classy.registry import Keys, signature_keys

_REFUSED = {
    "LBFGS": "it calls the model and the loss several times for one update, and a train step here does so once",
    "SparseAdam": "it takes sparse gradients only, and those of a task are dense",
}
_NEED_WHOLE_PARAMETERS = ("Adafactor", "Muon")  # their update of an element depends on the others


class TorchOptimizer(ClassyOptimizer):
    """An optimizer of `torch.optim`; base of the classes that `find` makes, one for each.

    Args:
        **options: the arguments of the torch optimizer, other than the parameters.

    Raises:
        ComponentError: torch refuses an argument.
    """

    torch_class: ClassVar[Any]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        try:
            self.torch_class([torch.zeros(1, 1, requires_grad=True)], **self._options)
        except TypeError as error:
            raise ArgumentTypeError(f"torch.optim.{self.torch_class.__name__}: {error}") from None
        except (ValueError, RuntimeError) as error:
            raise ComponentError(f"torch.optim.{self.torch_class.__name__}: {error}") from None
        vars(self).update({name: self._options.pop(name) for name in self.implementations if name in self._options})

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the arguments of the torch optimizer, and the keys of every optimizer."""
        keys = signature_keys(cls.torch_class, skip=frozenset({"params"}))
        plain = {name: key._replace(annotation=_without_tensors(key.annotation)) for name, key in keys.items()}
        return {**plain, **super().config_keys()}

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.optimizer = self.torch_class(param_groups, **self._options, **self.implementation(param_groups))

    def implementation(self, param_groups: list[Group]) -> dict[str, bool]:
        """Returns `foreach` and `fused`, as far as they are chosen; fused kernels are not differentiable.

        Raises:
            ComponentError: two options contradict each other.
        """
        chosen = super().implementation(param_groups)
        if self._options.get("differentiable"):
            if self.fused:
                raise ComponentError("fused kernels are not differentiable: leave out `fused` or `differentiable`")
            chosen.pop("fused", None)
        return chosen

    def flags(self) -> dict[str, bool]:
        """Returns the options that are true or false."""
        return {name: value for name, value in self._options.items() if isinstance(value, bool)}

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the buffers that every parameter gets in an update with these options, found by making one."""
        saved = {name: value for name, value in options.items() if isinstance(value, bool) or name == "momentum"}
        return set.intersection(*(_buffers_after_update(self.torch_class, self._options, saved, s) for s in _SHAPES))


_SHAPES = ((2,), (2, 3))


def _buffers_after_update(
    cls: Any, own: Mapping[str, Any], saved: Mapping[str, Any], shape: tuple[int, ...]
) -> set[str]:
    """Returns the buffers of a parameter of a shape that have this shape or are numbers.

    Args:
        cls: of the optimizer.
        own: its options.
        saved: options of a checkpoint, which may have any value.
        shape: of the parameter.
    """
    known = signature_keys(cls)
    eager: dict[str, Any] = {name: False for name in HOW_IT_RUNS if name in known}
    options: dict[str, Any] = {**own, **{name: value for name, value in saved.items() if name in known}, **eager}
    parameter = torch.zeros(shape, requires_grad=True)
    parameter.grad = torch.zeros(shape)
    try:
        optimizer = cls([parameter], **options)
        optimizer.step()
    except (ValueError, TypeError, RuntimeError):  # Muon takes matrices only; of a checkpoint's options
        return set() if len(shape) > 1 else _buffers_after_update(cls, own, saved, (2, 3))
    entries = optimizer.state[parameter].items()
    return {name for name, value in entries if isinstance(value, torch.Tensor) and value.shape in ((), shape)}


def _without_tensors(annotation: Any) -> Any:
    """Returns the annotation without the alternative of a tensor, which no config can have."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return tuple[tuple(_without_tensors(argument) for argument in arguments)]  # type: ignore[misc]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(one for one in arguments if one is not torch.Tensor)]  # noqa: UP007
    return annotation


def _torch_classes() -> dict[str, type[torch.optim.Optimizer]]:
    classes = {name: value for name, value in vars(torch.optim).items() if inspect.isclass(value)}
    base = torch.optim.Optimizer
    return {name: cls for name, cls in classes.items() if issubclass(cls, base) and cls is not base}


def names() -> list[str]:
    """Returns the names of torch's optimizers that can train a task."""
    return sorted(_torch_classes().keys() - _REFUSED.keys())


def find(name: str) -> type[TorchOptimizer] | None:
    """Returns the class for an optimizer of torch; None if there is none of that name.

    Args:
        name: of the torch class ("NAdam"), or the same in small letters.

    Raises:
        UnknownComponentError: that optimizer cannot train a task; the message says why.
    """
    classes = _torch_classes()
    small = {known.lower(): known for known in classes}
    name = name if name in classes else small.get(name, name)
    if name in _REFUSED:
        raise UnknownComponentError(
            f"the optimizer {name} cannot be used: {_REFUSED[name]}. Use another one (`ray-classy list optimizer`)"
        )
    return _class_for(name) if name in classes else None


@functools.cache
def _class_for(name: str) -> type[TorchOptimizer]:
    torch_class, doc = _torch_classes()[name], f"`torch.optim.{name}`, with torch's arguments and defaults."
    known = inspect.signature(torch_class).parameters
    attributes = {
        "torch_class": torch_compat.SGD if torch_class is torch.optim.SGD else torch_class,
        "implementations": tuple(one for one in IMPLEMENTATIONS if one in known),
        "needs_whole_parameters": name in _NEED_WHOLE_PARAMETERS,
        "__module__": __name__,
        "__doc__": doc,
    }
    return type(name, (TorchOptimizer,), attributes)


def __getattr__(name: str) -> Any:
    """Returns the class of that name, so that it can be imported and pickled like any other."""
    if name in names():
        return _class_for(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
