"""What a task is to a trainer, and how tasks are found by name."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ray_classy.checkpoint import CheckpointEvery
from ray_classy.distributed import is_primary
from ray_classy.errors import TaskError
from ray_classy.hooks import ClassyHook
from ray_classy.registry import Registry

TASK_REGISTRY: Registry[ClassyTask] = Registry(
    "task",
    {
        "classification_task": "ray_classy.tasks.classification_task:ClassificationTask",
        "fine_tuning": "ray_classy.tasks.fine_tuning_task:FineTuningTask",
    },
    unique_class_names=True,
)
register_task = TASK_REGISTRY.register

_OF_THE_PROCESS = ("dataloader", "data_iterator", "distributed_model", "distributed_loss", "_sharded")


class ClassyTask(ABC):
    """All parts and steps of a training, as `ClassyTrainer` drives them.

    Attributes:
        hooks: called at the five points of a run.
        train: whether the current phase trains.
        seed: the run's seed, at least 0.
        deterministic: whether torch may only use algorithms that give the same bits every time.

    The other attributes are what trainers and hooks look at; a task that has no such thing leaves them as they are.
    """

    hooks: list[ClassyHook]
    train: bool = True
    seed: int = 0
    deterministic: bool = False
    test_only: bool = False
    phases: Sequence[Mapping[str, bool]] = ()
    phase_idx: int = -1
    train_phase_idx: int = -1
    num_updates: int = 0
    num_train_steps: int = 0
    datasets: Mapping[str, Any] = MappingProxyType({})
    data_iterator: Any = None
    losses: Any = ()
    meters: Sequence[Any] = ()
    perf_log: Sequence[Mapping[str, Any]] = ()
    checkpoint_every: CheckpointEvery = CheckpointEvery()

    def __init__(self) -> None:
        self.hooks = []
        self.data_iterator = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles go without what belongs to the process that trains: its data and wrapped modules."""
        state = self.__dict__
        return {**state, **{name: None for name in _OF_THE_PROCESS if name in state}}

    @classmethod
    @abstractmethod
    def from_config(cls, config: dict[str, Any]) -> ClassyTask:
        """Builds the task from its config."""

    @property
    @abstractmethod
    def where(self) -> float:
        """How far training is, in [0, 1); 1.0 when it is over."""

    @abstractmethod
    def done_training(self) -> bool:
        """Whether no phase is left."""

    @abstractmethod
    def get_classy_state(self, deep_copy: bool = False) -> dict[str, Any]:
        """The task's whole state, of tensors and plain values.

        Args:
            deep_copy: copy the tensors instead of sharing them with the live objects.
        """

    @abstractmethod
    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Takes up what `get_classy_state` returned."""

    @abstractmethod
    def prepare(self, num_dataloader_workers: int = 0, dataloader_mp_context: str | None = None) -> None:
        """Makes the task ready to train; called by the trainer before `on_start`."""

    @abstractmethod
    def train_step(self) -> None:
        """Trains on one batch; raises StopIteration when the phase has no more."""

    @abstractmethod
    def eval_step(self) -> None:
        """Evaluates one batch; raises StopIteration when the phase has no more."""

    @abstractmethod
    def on_start(self) -> None:
        """Called by the trainer before the first phase."""

    @abstractmethod
    def on_phase_start(self) -> None:
        """Called by the trainer before each phase."""

    @abstractmethod
    def on_phase_end(self) -> None:
        """Called by the trainer after each phase."""

    @abstractmethod
    def on_end(self) -> None:
        """Called by the trainer after the last phase."""

    @property
    def phase_type(self) -> str:
        """The current phase's type, "train" or "test"."""
        return "train" if self.train else "test"

    def _set_checkpoint_dict(self, checkpoint_dict: dict[str, Any] | None) -> Any:
        """Sets the content of a checkpoint to start from."""
        raise TaskError(f"{type(self).__name__} cannot go on from a checkpoint: it has no _set_checkpoint_dict")

    def gather_state(self) -> dict[str, Any] | None:
        """`get_classy_state` on the primary rank, None on the others; every rank calls it.

        A task whose state is dealt to the ranks gathers it here.
        """
        return self.get_classy_state() if is_primary() else None

    @property
    def steps_in_phase(self) -> int:
        """Steps of the current phase that are over, also those that another process made before an interruption."""
        return 0

    @property
    def can_pause(self) -> bool:
        """Whether a checkpoint can be written now, inside a train phase."""
        return False

    def get_phase_state(self) -> dict[str, Any]:
        """What a checkpoint keeps besides of a train phase that is not over; asked for where `can_pause` says so."""
        raise NotImplementedError

    def step(self) -> None:
        """Trains or evaluates one batch, then calls the hooks."""
        if self.train:
            self.train_step()
        else:
            self.eval_step()
        for hook in self.hooks:
            hook.on_step(self)

    def run_hooks(self, local_variables: dict[str, Any], hook_function: str) -> None:
        """Calls one method of every hook with the task and `local_variables`.

        Args:
            local_variables: passed as the second argument.
            hook_function: the method's name, one of `ClassyHookFunctions`.
        """
        for hook in self.hooks:
            getattr(hook, hook_function)(self, local_variables)


TASK_REGISTRY.base = ClassyTask


def build_task(config: Mapping[str, Any]) -> ClassyTask:
    """Builds a task from its config; `name` chooses the class that `register_task` knows under it.

    The config is checked first, as a whole; it is never written to. Modules named under `imports` are imported.

    Raises:
        ConfigError: the config has mistakes, an unknown name among them; the message lists them all.
    """
    from ray_classy.tasks.task_config import checked

    config = checked(config)
    # A Config is copied as one, so that what only a constructor finds is reported at its line as well.
    copied = copy.deepcopy(config if isinstance(config, dict) else dict(config))
    return TASK_REGISTRY.named_class(config).from_config(copied)
