"""The interface of tasks, and their registry."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ray_classy.checkpoint import CheckpointEvery
from ray_classy.checkpoint.content import Checkpoint, generators_of
from ray_classy.distributed import is_primary
from ray_classy.hooks import ClassyHook
from ray_classy.registry import Registry
from ray_classy.tasks.log_every import LogEvery
from ray_classy.tasks.metrics import phase_metrics
from ray_classy.tasks.user_calls import call_hooks

if TYPE_CHECKING:
    from ray_classy.tasks.dry_run import DryRun

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
    """Everything that one training run needs: the interface that trainers drive.

    A direct subclass implements the abstract methods; each other method has a default that makes it trainable, with
    checkpoints and resume. Trainers, sweeps and the command line call these methods and read these attributes only.

    Attributes:
        hooks: called at five points of the run.
        train: whether the current phase is a train phase.
        seed: seed of the run, at least 0.
        deterministic: whether torch is restricted to deterministic algorithms.
        test_only: whether the run evaluates and does not train.
        num_epochs: length of the run in passes over the train dataset.
        phases: the phases of the run, each `{"train": bool}`; empty if the task does not know them.
        phase_idx: index of the current phase, from 0; -1 before the first.
        train_phase_idx: index of the current or last train phase, from 0; -1 before the first.
        num_updates: samples trained on so far (the predecessor's name; it counts samples, not updates).
        num_train_steps: train steps made so far.
        datasets: datasets by phase type, "train" and "test".
        data_iterator: iterator over the batches of the current phase.
        losses: losses of the steps of the current phase.
        meters: measure each phase; have a `name` and a `value`.
        perf_log: training speed, a list of `{"tag", "phase_idx", "im_per_sec"}`.
        last_batch: of the last step, with its `loss` and `step_data`; None if there is none.
        device: on which the task computes, if it is known.
        optimizer: of the model, if there is one.
        mixup_transform: mixes the rows of train batches; None if nothing does.
        base_model: the model, if the task has one.
        use_gpu: whether to train on a GPU; None to use one if there is one.
        wanted_period: train steps per optimizer update that the trainer asks for; None for the task's own choice.
        loaded_checkpoint: whether `prepare` loaded a checkpoint.
        generators: states of the random generators of all ranks, from the loaded checkpoint; the trainer restores them
            where it resumes inside a phase.
        stopped_early: why the run ends before its last phase: a hook sets it at the end of a round, and `done_training`
            must be true then; else None.
        checkpoint_every: how often the run writes checkpoints.
        log_every: how often the run logs its progress inside a phase.
        built_from: the config that the task was built from, kept in step with its options, also if its parts were
            replaced; None for a task built in Python. See `config`.
    """

    hooks: list[ClassyHook]
    train: bool = True
    seed: int = 0
    deterministic: bool = False
    test_only: bool = False
    num_epochs: int | float = 1
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
    last_batch: Any = None
    device: Any = None
    optimizer: Any = None
    mixup_transform: Any = None
    base_model: Any = None
    use_gpu: bool | None = None
    wanted_period: int | None = None
    loaded_checkpoint: bool = False
    generators: Sequence[Any] | None = None
    stopped_early: str | None = None
    checkpoint_every: CheckpointEvery = CheckpointEvery()
    log_every: LogEvery = LogEvery()
    built_from: Mapping[str, Any] | None = None
    _parts_built: Sequence[Any] | None = None

    def __init__(self) -> None:
        self.hooks = []
        self.data_iterator = None  # an attribute of its own, which tasks in the predecessor's manner delete

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out of copies and pickles what belongs to this process: data iterators and wrapped modules."""
        state = self.__dict__
        return {**state, **{name: None for name in _OF_THE_PROCESS if name in state}}

    # -- what a subclass implements -----------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def from_config(cls, config: dict[str, Any]) -> ClassyTask:
        """Builds the task from its config."""

    @property
    @abstractmethod
    def where(self) -> float:
        """Progress of the training in [0, 1); 1.0 when it is over."""

    @abstractmethod
    def done_training(self) -> bool:
        """Whether the last phase is over."""

    @abstractmethod
    def get_classy_state(self, deep_copy: bool = False) -> dict[str, Any]:
        """Returns the task's whole state: tensors and plain values.

        Args:
            deep_copy: copy the tensors instead of sharing them with the live objects.
        """

    @abstractmethod
    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores a state that `get_classy_state` returned."""

    @abstractmethod
    def prepare(self, num_dataloader_workers: int = 0, dataloader_mp_context: str | None = None) -> None:
        """Makes the task ready to train; the trainer calls it before `on_start`."""

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

    # -- before a run -------------------------------------------------------------------------------------------------

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The config that builds the task as it is now; None if it was built, or given other parts, in Python.

        It follows changes of options (`set_num_epochs`, ...). Parts are compared by identity, because lists of parts
        can change in place (`task.hooks.append(...)`).
        """
        if self.built_from is None or self._parts_built is None:
            return None
        parts = self._parts()
        same = len(parts) == len(self._parts_built) and all(map(operator.is_, parts, self._parts_built))
        return self.built_from if same else None

    @config.setter
    def config(self, config: Mapping[str, Any] | None) -> None:
        self.built_from, self._parts_built = config, self._parts()

    def _parts(self) -> list[Any]:
        """The objects that a config builds."""
        return [*self.hooks]

    def planned_phases(self) -> list[dict[str, bool]]:
        """Returns the phases of the run, each `{"train": bool}`; known before `prepare`. Empty if unknown."""
        return [dict(phase) for phase in self.phases]

    def epochs_of(self, train_phases: int) -> int | float:
        """Returns how many epochs, passes over the train dataset, so many train phases make.

        They are the same number unless the dataset cuts an epoch into several phases.
        """
        return train_phases

    def preflight(
        self, world_size: int = 1, on_gpu: bool | None = None, resume: Checkpoint | None = None
    ) -> dict[str, DryRun]:
        """Finds mistakes before anything is started: tries the parts on a few rows, and the checkpoint on the model.

        Args:
            world_size: number of ranks of the run.
            on_gpu: whether the workers have GPUs; None if each finds out for itself.
            resume: the checkpoint that the run resumes from; None for a new run, which may start from one of its own.

        Returns:
            The results by phase type; empty for a task that tries nothing.

        Raises:
            TaskError, DataError, CheckpointError: what would have stopped the run.
        """
        if resume is not None:
            self.check_checkpoint(resume.content, resume.path)
        return {}

    def use_gpu_if_unset(self, on_gpu: bool) -> None:
        """Tells the task whether the trainer gave this process a GPU; a choice of the user's is kept."""

    def keep_update_rows(self, before: Mapping[str, int] | None, ranks: int | None) -> dict[str, int] | None:
        """Keeps the number of rows per optimizer update on another number of ranks, by accumulating gradients.

        Args:
            before: what this returned in the run that wrote the checkpoint to resume from, if there is one.
            ranks: number of ranks the run is meant for, if it is elastic.

        Returns:
            What is written into checkpoints, for the next call: `replica`, rows per step on one rank, and `update`,
            rows per update. None for a task that keeps nothing.
        """
        return None

    def checkpoint_structure(self) -> Any:
        """Returns what two tasks must have in common to load each other's checkpoints, to be compared with `==`."""
        return None

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuses a state that `get_classy_state` cannot have returned, before any of it is used.

        A run whose newest checkpoint has such a state resumes from the one before.

        Raises:
            DamagedCheckpointError: the message says what is wrong.
        """

    def check_resume(self, content: Mapping[str, Any], where: str | None = None) -> None:
        """Refuses a checkpoint that was written with other data.

        Args:
            content: of the checkpoint.
            where: its path, for the message.

        Raises:
            DataError: the datasets have other classes now, so that the model's outputs would change their meaning.
        """

    def check_checkpoint(self, content: Mapping[str, Any], where: str | None = None) -> None:
        """Refuses a checkpoint that does not fit the task, which stays as it is; the arguments are `check_resume`'s.

        Raises:
            DataError: as `check_resume`.
            CheckpointError: the weights do not fit the model.
        """
        self.check_resume(content, where)

    def data_notes(self) -> list[str]:
        """Returns lines for the log about the datasets: what of their sources is not read, how labels are numbered."""
        return []

    def weights_note(self) -> list[str]:
        """Returns lines about the pretrained weights that the dry run tried; none if the task starts without."""
        return []

    def device_note(self, on_gpu: bool | None) -> str | None:
        """Returns a sentence about options that have no effect on GPUs or, if not `on_gpu`, on CPUs; else None.

        None for `on_gpu` means the device of this process.
        """
        return None

    def resume_note(self, content: Mapping[str, Any]) -> str | None:
        """Returns a sentence for the log if the run is finished, or its length changed; else None.

        Called before `prepare`, with the content of the checkpoint to resume from.
        """
        return None

    def prepare_from(self, content: dict[str, Any] | None) -> None:
        """Prepares the task, and restores the state in a checkpoint.

        The task keeps no reference to `content`; a caller that keeps none either frees its memory.

        Args:
            content: of the checkpoint; None to start without one.
        """
        self.prepare()
        if content is not None:
            for name, value in ((content.get("ray_classy") or {}).get("counters") or {}).items():
                if not isinstance(getattr(type(self), name, None), property):
                    setattr(self, name, value)
            self.set_classy_state(content["classy_state_dict"])
            self.generators = generators_of(content)
            self.loaded_checkpoint = True

    def counters(self) -> dict[str, Any]:
        """Returns the attributes that count the progress; a checkpoint keeps them, and `prepare_from` restores them."""
        names = ("train", "phase_idx", "train_phase_idx", "num_updates", "num_train_steps")
        return {name: getattr(self, name) for name in names}

    def gather_state(self) -> dict[str, Any] | None:
        """Returns `get_classy_state()` on the primary rank, None on the others; every rank calls it.

        A task whose state is sharded across ranks gathers it here.
        """
        return self.get_classy_state() if is_primary() else None

    @property
    def can_pause(self) -> bool:
        """Whether a checkpoint can be written now, inside a train phase."""
        return False

    def get_phase_state(self) -> dict[str, Any]:
        """Returns the state of an unfinished train phase; called only if `can_pause`."""
        raise NotImplementedError(f"{type(self).__name__} says that it can pause, and has no get_phase_state")

    def evaluation_state(self) -> dict[str, Any]:
        """Returns what a test-only run changes: plain values and tensors on the CPU."""
        return {}

    def set_evaluation_state(self, state: dict[str, Any]) -> None:
        """Restores what `evaluation_state` returned on a worker."""

    # -- while it runs ------------------------------------------------------------------------------------------------

    @property
    def phase_type(self) -> str:
        """The current phase's type, "train" or "test"."""
        return "train" if self.train else "test"

    @property
    def num_batches_per_phase(self) -> int | None:
        """Number of steps of this rank in the current phase; None if it is not known."""
        return len(self.data_iterator) if hasattr(self.data_iterator, "__len__") else None

    @property
    def steps_in_phase(self) -> int:
        """Steps made in the current phase, including those before an interruption."""
        return 0

    def step(self) -> None:
        """Trains or evaluates one batch, then calls the hooks; raises StopIteration when the phase has no more."""
        if self.train:
            self.train_step()
        else:
            self.eval_step()
        self.call_hooks("on_step")

    def memory_remedy(self) -> str | None:
        """Returns which keys to set where memory ran out in the current step; None if the task has none."""
        return None

    def call_hooks(self, point: str) -> None:
        """Calls every hook at one of the five points of a run.

        Args:
            point: "on_start", "on_phase_start", "on_step", "on_phase_end" or "on_end".

        Raises:
            TaskError: a hook raised StopIteration, which would end the phase.
        """
        call_hooks(self.hooks, point, self)

    def run_hooks(self, local_variables: dict[str, Any], hook_function: str) -> None:
        """Calls a method of every hook, one of `ClassyHookFunctions` by name, with the task and `local_variables`."""
        for hook in self.hooks:
            getattr(hook, hook_function)(self, local_variables)

    def phase_metrics(self) -> dict[str, Any]:
        """Returns the metrics of the phase that just ended: mean loss, and meter values by meter name."""
        return phase_metrics(self.losses, self.meters)

    def reported_metrics(self) -> list[str]:
        """Returns the dotted names of the metrics that will be reported (`test.accuracy.top_1`); empty if unknown."""
        return []


TASK_REGISTRY.base = ClassyTask
