"""What a hook is: code that a task calls at five points of a run."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from ray_classy.registry import Registry, constructor_arguments, reads_signature

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask

HOOK_REGISTRY: Registry[ClassyHook] = Registry(
    "hook",
    {
        "checkpoint": "ray_classy.hooks.checkpoint_hook:CheckpointHook",
        "ema_model_weights": "ray_classy.hooks.exponential_moving_average_model_hook:ExponentialMovingAverageModelHook",
        "loss_lr_meter_logging": "ray_classy.hooks.loss_lr_meter_logging_hook:LossLrMeterLoggingHook",
        "progress_bar": "ray_classy.hooks.progress_bar_hook:ProgressBarHook",
    },
    unique_class_names=True,
)
register_hook = HOOK_REGISTRY.register


class ClassyHookFunctions(Enum):
    """The points at which a task calls its hooks."""

    on_start = auto()
    on_phase_start = auto()
    on_step = auto()
    on_phase_end = auto()
    on_end = auto()


class ClassyHookState:
    """What a hook keeps across a restart: attributes of tensors and plain values."""

    def get_classy_state(self) -> dict[str, Any]:
        """The attributes, the live objects themselves."""
        return self.__dict__

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Updates the attributes; those that `state` lacks keep their values."""
        self.__dict__.update(copy.deepcopy(dict(state)))


class ClassyHook(ABC):
    """Base of all hooks. A hook that does nothing at a point assigns `ClassyHook._noop` to it.

    Attributes:
        changes_weights: whether it gives the model other weights than the optimizer does. It then needs all of them in
            train steps, which the strategy fsdp deals to the ranks, and has its state in test-only runs as well.
    """

    changes_weights = False

    def _noop(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def __init__(self) -> None:
        self.state: Any = ClassyHookState()

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyHook:
        """Builds the hook; the config's keys are the constructor's arguments."""
        return cls(**constructor_arguments(cls, config))

    def name(self) -> str:
        """The class's name; a task has one hook of each."""
        return type(self).__name__

    def get_classy_state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the hook."""
        return self.state.get_classy_state()

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Takes up what `get_classy_state` returned."""
        self.state.set_classy_state(state)

    @abstractmethod
    def on_start(self, task: ClassyTask) -> None:
        """Called once, after the task is prepared and any checkpoint is loaded."""

    @abstractmethod
    def on_phase_start(self, task: ClassyTask) -> None:
        """Called at the start of each phase, when its data iterator stands."""

    @abstractmethod
    def on_step(self, task: ClassyTask) -> None:
        """Called after each train or eval step."""

    @abstractmethod
    def on_phase_end(self, task: ClassyTask) -> None:
        """Called at the end of each phase, when losses and meters are synchronised."""

    @abstractmethod
    def on_end(self, task: ClassyTask) -> None:
        """Called once, after the last phase."""


HOOK_REGISTRY.base = ClassyHook


def build_hook(config: Mapping[str, Any]) -> ClassyHook:
    """Builds a hook from its config; `name` chooses the class."""
    cls = HOOK_REGISTRY.named_class(config)
    return cls.from_config(copy.deepcopy({key: value for key, value in config.items() if key != "name"}))


def build_hooks(configs: Sequence[Mapping[str, Any]]) -> list[ClassyHook]:
    """Builds a list of hooks, in order."""
    return [build_hook(config) for config in configs]
