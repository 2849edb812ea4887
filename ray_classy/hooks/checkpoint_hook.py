"""A hook that sets how often checkpoints are written, and where the latest is published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.checkpoint import CHECKPOINT_FILE, save_checkpoint
from ray_classy.checkpoint.manifest import MANIFEST_FILE, read_manifest
from ray_classy.distributed import is_primary
from ray_classy.errors import ComponentError, DamagedCheckpointError, FolderNotFoundError, RayClassyError
from ray_classy.hooks.classy_hook import ClassyHook, register_hook
from ray_classy.storage import Storage

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask


@register_hook("checkpoint")
class CheckpointHook(ClassyHook):
    """Sets the cadence of checkpoints and a folder in which the latest is published as `checkpoint.torch`.

    In a run folder the trainer writes a checkpoint at the end of a round (a train phase and the test phase after it)
    when this hook has one due, and after the last round. Without the hook it writes one every round. A trainer without
    a run folder (`ClassyTrainer`) writes none: then the hook itself writes `checkpoint.torch` at the end of each phase
    that is due, and a copy `model_phase-{phase_idx}_end.torch`, into a folder that must exist.

    Args:
        checkpoint_folder: the folder in which `checkpoint.torch` is published, with its manifest; in a run folder's
            run it is created if it does not exist.
        input_args: plain values to store in the file.
        phase_types: the phases to count: "train", "test" or both; default train phases.
        checkpoint_period: a checkpoint is due every `checkpoint_period` counted phases, at least 1.

    Raises:
        ComponentError: an argument has an invalid value, or the folder is a file.
    """

    on_step = ClassyHook._noop
    on_end = ClassyHook._noop
    on_phase_start = ClassyHook._noop

    def __init__(
        self,
        checkpoint_folder: str,
        input_args: dict[str, Any] | None = None,
        phase_types: list[str] | None = None,
        checkpoint_period: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(checkpoint_folder, str) or not checkpoint_folder:
            raise ComponentError(f"checkpoint_folder must be a path, not {checkpoint_folder!r}")
        if type(checkpoint_period) is not int or checkpoint_period < 1:
            raise ComponentError(f"checkpoint_period must be an integer of at least 1, not {checkpoint_period!r}")
        phase_types = ["train"] if phase_types is None else list(phase_types)
        if not phase_types or set(phase_types) - {"train", "test"}:
            raise ComponentError(f"phase_types must be a list of 'train' and 'test', not {phase_types!r}")
        self.checkpoint_folder = checkpoint_folder
        self.input_args = input_args
        self.phase_types = phase_types
        self.checkpoint_period = checkpoint_period
        self.state.phases_counted = 0
        self.due = False
        self.trainer_writes = False  # set by sessions that write the checkpoints

    @classmethod
    def get_checkpoint_name(cls, phase_idx: int) -> str:
        """Returns the name of the copy that the hook writes itself at the end of a phase, from 0."""
        return f"model_phase-{phase_idx}_end.torch"

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_classy_state` returned."""
        counted = state.get("phases_counted", 0)
        if type(counted) is not int or counted < 0:
            raise DamagedCheckpointError(f"the checkpoint's state of hook {self.name()!r} counts {counted!r} phases")
        super().set_classy_state(state)

    def on_start(self, task: ClassyTask) -> None:
        """Refuses a folder that is a file, or has a `manifest.json` of something else, which would be replaced.

        Raises:
            FolderNotFoundError: the folder does not exist, and the hook itself writes.
        """
        if not self.trainer_writes:
            self._check_folder()
        if os.path.exists(self.checkpoint_folder) and not os.path.isdir(self.checkpoint_folder):
            raise ComponentError(f"checkpoint_folder {self.checkpoint_folder!r} is a file; give a folder")
        try:
            read_manifest(Storage(self.checkpoint_folder), "")
        except RayClassyError as error:
            raise ComponentError(
                f"checkpoint_folder {self.checkpoint_folder!r} has a {MANIFEST_FILE} that is not a checkpoint's, and "
                f"would be replaced ({error}): remove it, or give another folder"
            ) from None

    def on_phase_end(self, task: ClassyTask) -> None:
        """Counts the phase."""
        phase_type = "train" if task.train else "test"
        if phase_type in self.phase_types:
            self.state.phases_counted += 1
            self.due = self.due or self.state.phases_counted % self.checkpoint_period == 0
        if self.due and not self.trainer_writes and not task.test_only:
            self._save_checkpoint(task, self.get_checkpoint_name(task.phase_idx))
            self.due = False

    def _save_checkpoint(self, task: ClassyTask, filename: str) -> None:
        """Writes `checkpoint.torch`, and a copy under `filename`; every rank must call it."""
        self._check_folder()
        state = task.gather_state()
        if is_primary():
            content = {"input_args": self.input_args, "classy_state_dict": state}
            save_checkpoint(self.checkpoint_folder, content)
            latest = os.path.join(self.checkpoint_folder, CHECKPOINT_FILE)
            shutil.copyfile(latest, os.path.join(self.checkpoint_folder, filename))

    def _check_folder(self) -> None:
        if not os.path.exists(self.checkpoint_folder):
            raise FolderNotFoundError(f"checkpoint_folder {self.checkpoint_folder!r} does not exist: make the folder")
