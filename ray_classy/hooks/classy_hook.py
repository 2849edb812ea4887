"""The base class of hooks, their registry, and how configs are built into hooks."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray_classy.errors import DamagedCheckpointError
from ray_classy.hooks.constants import ClassyHookFunctions as ClassyHookFunctions
from ray_classy.registry import Registry, construct, reads_signature

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask

HOOK_REGISTRY: Registry[ClassyHook] = Registry(
    "hook",
    {
        "checkpoint": "ray_classy.hooks.checkpoint_hook:CheckpointHook",
        "early_stopping": "ray_classy.hooks.early_stopping_hook:EarlyStoppingHook",
        "ema_model_weights": "ray_classy.hooks.exponential_moving_average_model_hook:ExponentialMovingAverageModelHook",
        "lookahead": "ray_classy.hooks.lookahead_hook:LookaheadHook",
        "loss_lr_meter_logging": "ray_classy.hooks.loss_lr_meter_logging_hook:LossLrMeterLoggingHook",
        "mlflow": "ray_classy.hooks.mlflow_hook:MLflowHook",
        "model_complexity": "ray_classy.hooks.model_complexity_hook:ModelComplexityHook",
        "model_tensorboard": "ray_classy.hooks.model_tensorboard_hook:ModelTensorboardHook",
        "output_csv": "ray_classy.hooks.output_csv_hook:OutputCSVHook",
        "precise_bn": "ray_classy.hooks.precise_batch_norm_hook:PreciseBatchNormHook",
        "profiler": "ray_classy.hooks.profiler_hook:ProfilerHook",
        "progress_bar": "ray_classy.hooks.progress_bar_hook:ProgressBarHook",
        "tensorboard": "ray_classy.hooks.tensorboard_hook:TensorboardHook",
        "tensorboard_plot": "ray_classy.hooks.tensorboard_plot_hook:TensorboardPlotHook",
        "torchscript": "ray_classy.hooks.torchscript_hook:TorchscriptHook",
        "wandb": "ray_classy.hooks.wandb_hook:WandbHook",
        "whitening": "ray_classy.hooks.whitening_hook:WhiteningHook",
        "visdom": "ray_classy.hooks.visdom_hook:VisdomHook",
    },
    unique_class_names=True,
)
register_hook = HOOK_REGISTRY.register


class ClassyHookState:
    """The part of a hook that is stored in checkpoints: attributes of tensors and plain values."""

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the attributes; the live objects, not copies."""
        return self.__dict__

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Updates the attributes; those missing in `state` keep their values.

        Raises:
            DamagedCheckpointError: `state` does not hold attributes by name.
        """
        if not isinstance(state, Mapping):
            raise DamagedCheckpointError(f"the checkpoint's state of a hook must be a dict, not {state!r:.40}")
        strange = [name for name in state if not isinstance(name, str) or hasattr(ClassyHookState, name)]
        if strange:
            raise DamagedCheckpointError(f"the checkpoint's state of a hook is damaged: it has an entry {strange[0]!r}")
        self.__dict__.update(copy.deepcopy(dict(state)))


class ClassyHook(ABC):
    """Base class of hooks. A hook that does nothing at a point assigns `ClassyHook._noop` to it.

    Attributes:
        changes_weights: whether the hook changes the model's weights. Such a hook needs all weights in train steps, so
            the strategy fsdp, which shards them, refuses it; its state is restored in test-only runs as well.
    """

    changes_weights = False

    def _noop(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def __init__(self) -> None:
        self.state: Any = ClassyHookState()

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyHook:
        """Builds the hook from its config: the constructor's arguments by name."""
        return construct(cls, config)

    def check(self, task: ClassyTask) -> None:
        """Called before a run starts: refuses a task that the hook cannot work with. By default it refuses none.

        Raises:
            ComponentError: the message says why.
        """

    @classmethod
    def name(cls) -> str:
        """Returns the class's name; a task has at most one hook of each name."""
        return cls.__name__

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the hook's state for a checkpoint."""
        return self.state.get_classy_state()

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_classy_state` returned; None, of a hook without a state, changes nothing."""
        if state is not None:
            self.state.set_classy_state(state)

    @abstractmethod
    def on_start(self, task: ClassyTask) -> None:
        """Called once, after the task is prepared and any checkpoint is loaded."""

    @abstractmethod
    def on_phase_start(self, task: ClassyTask) -> None:
        """Called at the start of each phase, after its data iterator is created."""

    @abstractmethod
    def on_step(self, task: ClassyTask) -> None:
        """Called after each train or eval step."""

    @abstractmethod
    def on_phase_end(self, task: ClassyTask) -> None:
        """Called at the end of each phase, after losses and meters are synchronised."""

    @abstractmethod
    def on_end(self, task: ClassyTask) -> None:
        """Called once, after the last phase."""


HOOK_REGISTRY.base = ClassyHook


def build_hook(hook_config: Mapping[str, Any]) -> ClassyHook:
    """Builds a hook from its config; `name` chooses the class."""
    cls = HOOK_REGISTRY.named_class(hook_config)
    return cls.from_config(copy.deepcopy({key: value for key, value in hook_config.items() if key != "name"}))


def build_hooks(hook_configs: Sequence[Mapping[str, Any]]) -> list[ClassyHook]:
    """Builds a list of hooks, in order."""
    return [build_hook(config) for config in hook_configs]
