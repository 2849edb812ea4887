"""The base class of parameter schedulers, their registry, and how a config is built into one."""

from __future__ import annotations

import copy
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.registry import Key, Keys, Registry, config_keys, construct_from, constructor_arguments, signature_keys

if TYPE_CHECKING:
    from ray_classy.optim.param_scheduler.warmup import TrainingLength

WHERE_EPSILON = 1e-6
"""Added to `where` before it is compared with a boundary, so that rounding never delays a change by an update."""

Choice = TypeVar("Choice", bound=enum.Enum)

PARAM_SCHEDULER_REGISTRY: Registry[Any] = Registry(
    "param_scheduler",
    {
        "composite": "ray_classy.optim.param_scheduler.composite_scheduler:CompositeParamScheduler",
        "constant": "ray_classy.optim.param_scheduler.curves:ConstantParamScheduler",
        "cosine": "ray_classy.optim.param_scheduler.curves:CosineParamScheduler",
        "linear": "ray_classy.optim.param_scheduler.curves:LinearParamScheduler",
        "multistep": "ray_classy.optim.param_scheduler.steps:MultiStepParamScheduler",
        "polynomial": "ray_classy.optim.param_scheduler.curves:PolynomialDecayParamScheduler",
        "step": "ray_classy.optim.param_scheduler.steps:StepParamScheduler",
        "step_with_fixed_gamma": "ray_classy.optim.param_scheduler.steps:StepWithFixedGammaParamScheduler",
        "warmup": "ray_classy.optim.param_scheduler.warmup:WarmupParamScheduler",
    },
)
register_param_scheduler = PARAM_SCHEDULER_REGISTRY.register


class UpdateInterval(enum.Enum):
    """When an optimizer evaluates a scheduler: "epoch", after every train phase, or "step", before every update."""

    EPOCH = "epoch"
    STEP = "step"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], default: UpdateInterval | None = None) -> UpdateInterval:
        """Returns the `update_interval` of a scheduler's config; without one `default`, or STEP if that is None.

        Raises:
            ComponentError: it is neither "epoch" nor "step".
        """
        interval = config.get("update_interval", cls.STEP if default is None else default)
        return choose(cls, interval.lower() if isinstance(interval, str) else interval, "update_interval")


def choose(kind: type[Choice], value: Choice | str, what: str) -> Choice:
    """Returns the member of an enum that is `value` or has it as its value.

    Args:
        kind: the enum.
        value: a member or its value.
        what: the name of the argument, for the message.

    Raises:
        ComponentError: there is no such member.
    """
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(repr(member.value) for member in kind)
        raise ComponentError(f"{what} must be {known}, not {value!r}") from None


NUM_EPOCHS_DOC = "length of training, in which milestones are counted; null takes that of the task."


class ParamScheduler:
    """A function from the progress of training, and nothing else, to the value of an optimizer's option.

    In a config, the constructor's `num_updates` is called `num_epochs` (the task fills it in when it is absent), and
    `update_interval` replaces the scheduler's own interval.

    Attributes:
        update_interval: when an optimizer evaluates it.
        needs_length: whether a task calls `set_length` with the length of its training (a `TrainingLength`) before it
            is evaluated at another position than 0.
    """

    WHERE_EPSILON = WHERE_EPSILON
    needs_length = False
    update_interval: UpdateInterval = UpdateInterval.STEP

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, with `num_epochs` for `num_updates`, and `update_interval`."""
        keys = signature_keys(cls, skip=frozenset({"num_updates", "update_interval"}))
        if "num_updates" in signature_keys(cls):
            keys["num_epochs"] = Key(float | None, None, NUM_EPOCHS_DOC)
        keys["update_interval"] = Key(Literal["epoch", "step"] | None, None)
        return keys

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ParamScheduler:
        """Builds the scheduler from its config, which has the keys of `config_keys`.

        Raises:
            ArgumentTypeError: `num_epochs` is required and absent.
            ComponentError: `update_interval` is unknown.
        """
        arguments = constructor_arguments(cls, config)
        interval = arguments.pop("update_interval", None)
        signature = signature_keys(cls)
        if "num_updates" in signature:
            num_epochs = arguments.pop("num_epochs", None)
            if num_epochs is None and signature["num_updates"].default is not None:
                raise ArgumentTypeError(f"param_scheduler {config.get('name', cls.__name__)!r} needs num_epochs")
            arguments["num_updates"] = num_epochs
        scheduler = construct_from(cls, arguments, config.get("name", cls.__name__))
        if interval is not None:
            scheduler.update_interval = UpdateInterval.from_config({"update_interval": interval})
        return scheduler

    def set_length(self, length: TrainingLength) -> None:
        """Takes the length of the training, if `needs_length`."""

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done, in [0, 1).

        Raises:
            NotImplementedError: a subclass does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, where)")


PARAM_SCHEDULER_REGISTRY.base = ParamScheduler


class ClassyParamScheduler(ParamScheduler):
    """A scheduler with an update interval.

    Args:
        update_interval: when it is evaluated.
    """

    def __init__(self, update_interval: UpdateInterval = UpdateInterval.STEP) -> None:
        self.update_interval = choose(UpdateInterval, update_interval, "update_interval")


def build_param_scheduler(config: Mapping[str, Any]) -> ParamScheduler:
    """Builds a scheduler from a config with its `name` and its arguments.

    Raises:
        UnknownComponentError: no scheduler has that name.
    """
    return PARAM_SCHEDULER_REGISTRY.named_class(config).from_config(copy.deepcopy(dict(config)))


def with_num_epochs(config: Mapping[str, Any], num_epochs: float | None) -> dict[str, Any]:
    """Fills `num_epochs` into a scheduler's config, if its class reads that key and the config lacks it."""
    keys = config_keys(PARAM_SCHEDULER_REGISTRY.named_class(config))
    reads_it = keys is None or "num_epochs" in keys
    if num_epochs is None or not reads_it or config.get("num_epochs") is not None:
        return dict(config)
    return {**config, "num_epochs": num_epochs}
