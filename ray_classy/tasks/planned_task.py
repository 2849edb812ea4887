"""What is known of a classification task, and checked, before it is prepared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from ray_classy.checkpoint import load_checkpoint
from ray_classy.checkpoint.content import Checkpoint
from ray_classy.distributed import get_world_size
from ray_classy.memory import within_memory
from ray_classy.models.weights_report import WeightsReport
from ray_classy.registry import Keys
from ray_classy.tasks import (
    classes,
    splits,
    starting_weights,
    state_schema,
    task_config,
    task_state,
    update_rows,
)
from ray_classy.tasks.draft import Draft
from ray_classy.tasks.dry_run import DryRun, device_of, dry_run
from ray_classy.tasks.metrics import metric_names
from ray_classy.tasks.option import assume
from ray_classy.tasks.phases import build_phases, length_note
from ray_classy.tasks.task_parts import TaskParts


class PlannedTask(TaskParts):
    """The part of `ClassificationTask` that needs no prepared task: config, phases, batch sizes, checks.

    Attributes:
        is_draft: whether the task is only looked at, so that no weights are downloaded for it.
        weights_report: of the pretrained weights that were loaded, or tried by the dry run.
    """

    is_draft: bool = False
    weights_report: WeightsReport | None = None
    _counted: tuple[Any, tuple[int, int]] | None = None  # the phases, and how many there are of each type

    @classmethod
    def config_keys(cls) -> Keys:
        """The keys of the task's config."""
        return task_config.classification_keys(cls)

    @classmethod
    def from_config(cls, config: dict[str, Any], draft: Draft | None = None) -> Self:
        """Builds the task and all its parts from a config.

        Args:
            config: the keys of `config_keys`; it is not written to.
            draft: how parts are built for a task that is not trained.
        """
        return task_config.configure(cls(), config, draft)

    def __repr__(self) -> str:
        if self.built_from is None:
            return f"<{type(self).__name__}, built by setters>"
        return json.dumps(self.built_from, indent=4, default=str)

    def get_total_training_phases(self) -> int:
        """Train phases of the run."""
        return self._count_phases()[0]

    def get_total_test_phases(self) -> int:
        """Test phases of the run."""
        return self._count_phases()[1]

    def _count_phases(self) -> tuple[int, int]:
        """Returns the number of train and of test phases; each step asks for them, so they are counted once."""
        counted = self._counted
        if counted is None or counted[0] is not self.phases or sum(counted[1]) != len(self.phases):
            train = sum(phase["train"] for phase in self.phases)
            self._counted = counted = self.phases, (train, len(self.phases) - train)
        return counted[1]

    def get_batchsize_per_replica(self) -> int:
        """Rows per step and rank in the current phase."""
        return self.datasets[self.phase_type].get_batchsize_per_replica()

    def get_global_batchsize(self) -> int:
        """Rows per step over all ranks in the current phase."""
        return self.get_batchsize_per_replica() * get_world_size()

    def _build_phases(self) -> list[dict[str, bool]]:
        return build_phases(
            self.num_epochs,
            self.train_phases_per_epoch or 1,
            self.test_phase_period,
            "train" in self.datasets,
            "test" in self.datasets,
            self.test_only,
        )

    def planned_phases(self) -> list[dict[str, bool]]:
        """Returns the phases that the options and datasets ask for, each `{"train": bool}`."""
        return self._build_phases()

    def epochs_of(self, train_phases: int) -> int | float:
        """Returns how many passes over the train dataset so many train phases make."""
        parts = self.train_phases_per_epoch or 1
        return train_phases // parts if train_phases % parts == 0 else round(train_phases / parts, 6)

    def reported_metrics(self) -> list[str]:
        """Returns the dotted names of the metrics that will be reported: a loss per phase type, and the meters."""
        kinds = {"train" if phase["train"] else "test" for phase in self.planned_phases()}
        return metric_names(sorted(kinds), self.meters)

    def preflight(
        self, world_size: int = 1, on_gpu: bool | None = None, resume: Checkpoint | None = None
    ) -> dict[str, DryRun]:
        """Finds mistakes in a dry run of one batch per phase type; see `ClassyTask.preflight`.

        The task stays as it is, but its datasets number their classes as the checkpoint or the train dataset does, and
        it holds the content of the checkpoint that it starts from until `prepare`.
        """
        start = self._content_to_start_from() if resume is None else (resume.content, resume.path)
        classes.match_classes(self, *start)
        with within_memory():
            seen = dry_run(self, world_size, on_gpu)  # type: ignore[arg-type]  # a ClassificationTask
        if resume is None:
            self._check_weights()
        else:
            self.check_checkpoint(resume.content, resume.path)
        return seen

    def device_note(self, on_gpu: bool | None) -> str | None:
        """Returns a sentence about mixed precision that has no effect on the device of the run; else None."""
        return None if self.precision is None else self.precision.remark(device_of(self, on_gpu))

    def prepare_from(self, content: dict[str, Any] | None) -> None:
        """Prepares the task, starting from the content of a checkpoint, if there is one."""
        if content is not None:
            self.checkpoint_dict = content
            del content  # `prepare` releases the last reference
        self.prepare()

    def _before_prepare(self) -> None:
        """Called first by `prepare`, for a subclass whose `prepare` does more; the dry run still tries its rows."""

    def _content_to_start_from(self) -> tuple[dict[str, Any] | None, str | None]:
        """Returns the content of the checkpoint to start from, and its path; None for each that is not set."""
        if self.checkpoint_dict is None and self.checkpoint_path is not None:
            self.checkpoint_dict = load_checkpoint(self.checkpoint_path)
        return self.checkpoint_dict, self.checkpoint_path

    def _freeze(self) -> None:
        """Freezes what is not trained, for a subclass that does not train all."""

    def _check_weights(self) -> None:
        """Tries the checkpoint to start from, or else loads the weights that the config of the model names."""
        self._content_to_start_from()
        if self.checkpoint_dict is not None:
            self.check_checkpoint(self.checkpoint_dict, self.checkpoint_path)
        else:
            starting_weights.load_starting_weights(self)

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuses a state that no task of this kind can have returned."""
        state_schema.check_state(self, state)
        if not self.test_only:
            state_schema.check_parts(self, state)

    def check_resume(self, content: Mapping[str, Any], where: str | None = None) -> None:
        """Matches the classes with those of a checkpoint; refuses it if they, or the split of the rows, are others."""
        classes.match_classes(self, content, where)
        splits.check_split(self, content, where)

    def check_checkpoint(self, content: Mapping[str, Any], where: str | None = None) -> None:
        """Refuses a checkpoint whose weights do not fit the model, or that was trained on other classes."""
        splits.log_split(self, content, where)
        starting_weights.check_checkpoint(self, content, where)

    def checkpoint_structure(self) -> Any:
        """Returns what two tasks must have in common to load each other's checkpoints."""
        return task_state.checkpoint_structure(self)

    def data_notes(self) -> list[str]:
        """Returns the remarks of the datasets, and their labels against the model's outputs."""
        heads = [head for heads in self.base_model.get_heads().values() for head in heads] if self.base_model else []
        own = getattr(self.base_model, "num_classes", None) if self.base_model is not None and not heads else None
        outputs = heads[0].num_classes if len(heads) == 1 else own
        return [line for kind in self.datasets for line in classes.data_notes(kind, self.datasets[kind], outputs)]

    def weights_note(self) -> list[str]:
        """Returns what the dry run or `prepare` loaded, as the lines of a table, or where the weights will be from."""
        if self.weights_report is not None:
            return self.weights_report.lines()
        source = self.base_model.starting_weights if self.base_model is not None else None
        return [] if source is None else [source.note()]

    def resume_note(self, content: Mapping[str, Any]) -> str | None:
        """Returns a sentence if the run to resume is finished, or its length changed."""
        return None if self.test_only else length_note(self.planned_phases(), content)

    def keep_update_rows(self, before: Mapping[str, int] | None, ranks: int | None) -> dict[str, int] | None:
        """Keeps the number of rows per update on another number of ranks; see `ClassyTask.keep_update_rows`."""
        return update_rows.keep_update_rows(self, before, ranks)

    def use_gpu_if_unset(self, on_gpu: bool) -> None:
        """Sets `use_gpu` if it is None."""
        if self.use_gpu is None:
            assume(self, "use_gpu", on_gpu)

    def gather_state(self) -> dict[str, Any] | None:
        """Returns the state on the primary rank, None on the others; every rank must call it."""
        return task_state.gather_state(self)

    def evaluation_state(self) -> dict[str, Any]:
        """Returns what an evaluation changes: phase, losses and meters."""
        return task_state.evaluation_state(self)

    def set_evaluation_state(self, state: dict[str, Any]) -> None:
        """Restores what `evaluation_state` returned."""
        task_state.set_evaluation_state(self, state)

    @property
    def checkpoint(self) -> dict[str, Any] | None:
        """The content of the checkpoint to start from, if one is set and `prepare` has not loaded it yet."""
        return self.checkpoint_dict

    @property
    def eval_phase_idx(self) -> int:
        """Index of the current or last test phase, from 0; -1 before the first."""
        return self.phase_idx - self.train_phase_idx - 1

    def done_training(self) -> bool:
        """Whether the last phase is over, or a hook has ended the run early."""
        return self.stopped_early is not None or self.phase_idx + 1 >= len(self.phases)
