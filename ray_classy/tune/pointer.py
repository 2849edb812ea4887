"""What trials give each other: a pointer to a checkpoint, and the state that another trial adopts from there.

The pointer is all that Ray Tune keeps of a trial, and gives to another one (population based training).
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from ray_classy.checkpoint import CHECKPOINT_FILE
from ray_classy.checkpoint.files import is_checkpoint_name
from ray_classy.checkpoint.manifest import MANIFEST_FILE
from ray_classy.errors import RunFolderError
from ray_classy.printable import printable
from ray_classy.records import damaged, parse_json_object, read_record
from ray_classy.storage import Storage
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_metrics import METRICS_FILE
from ray_classy.trainer.run_rows import is_trial_name
from ray_classy.tune.folder import REPORTS_FILE
from ray_classy.urls import shown

_FILE = "pointer.json"
SOURCE = "__source__"
"""In a trial's parameters: the `Pointer` to the checkpoint that it resumes from."""


@dataclasses.dataclass
class Pointer:
    """A checkpoint of a trial from which another one may resume: all that Ray Tune keeps of a trial.

    Attributes:
        run: the path of the trial's folder.
        checkpoint: the name of its checkpoint; None if it has none yet.
    """

    run: str
    checkpoint: str | None

    def plain(self) -> dict[str, Any]:
        """As it is in a trial's parameters, in Ray Tune's checkpoint and in the record of the trial that adopts it."""
        return dataclasses.asdict(self)

    @classmethod
    def in_parameters(cls, params: dict[str, Any]) -> Pointer | None:
        """The pointer in a trial's parameters, if there is one."""
        return cls(**params[SOURCE]) if params.get(SOURCE) else None

    def write(self, folder: str) -> None:
        """Writes the pointer into the folder of a checkpoint of Ray Tune."""
        with open(os.path.join(folder, _FILE), "w") as file:
            json.dump(self.plain(), file)

    @classmethod
    def read(cls, folder: str, sweep: Storage) -> Pointer:
        """Reads the pointer in the folder of a checkpoint of Ray Tune.

        Args:
            folder: of the checkpoint.
            sweep: the folder of the sweep, in which the trial must be.

        Raises:
            RecordError: it is damaged, or leads out of the sweep.
        """
        file = Storage(folder)
        where = file.join(_FILE)
        pointer = read_record(cls, parse_json_object(file.read(_FILE), where), where)
        trial = RunFolder(pointer.run).name
        if not is_trial_name(trial) or sweep.join(trial) != pointer.run:
            raise damaged(where, f"{printable(pointer.run)!r} is not a trial of the sweep")
        if pointer.checkpoint is not None and not is_checkpoint_name(pointer.checkpoint):
            raise damaged(where, f"{printable(pointer.checkpoint)!r} is not the name of a checkpoint")
        return pointer


def adopt(run: RunFolder, source: RunFolder, checkpoint: str) -> None:
    """Gives a trial the state of another at one of its checkpoints, with the metrics that led to it.

    Args:
        run: the trial's folder.
        source: the other's.
        checkpoint: a name of one of its checkpoints.

    Raises:
        RunFolderError: the other trial has no such checkpoint, or a file of it is a link.
    """
    if checkpoint not in source.checkpoints.names():
        raise RunFolderError(f"the trial {shown(source.path)} has no checkpoint {checkpoint}, which {run.name} adopts")
    files = [name for name in (METRICS_FILE, REPORTS_FILE) if source.storage.exists(name)]
    for name in (f"{checkpoint}/{CHECKPOINT_FILE}", *files):
        if source.storage.has_link(name):
            raise RunFolderError(
                f"{shown(source.storage.join(name))} is a link, or in a folder that is one: copy the file"
            )
    run.storage.remove(checkpoint)  # its own of that name, with a manifest that says so
    for file in (CHECKPOINT_FILE, MANIFEST_FILE):
        if source.storage.exists(f"{checkpoint}/{file}"):
            run.storage.write(f"{checkpoint}/{file}", source.storage.read(f"{checkpoint}/{file}", most_bytes=None))
    names = run.checkpoints.names()
    for name in names[names.index(checkpoint) + 1 :]:
        run.checkpoints.remove(name)
    run.checkpoints.update_aliases()
    for file in files:
        run.storage.write(file, source.storage.read(file, most_bytes=None))
    run.log_now(f"resumed from {checkpoint} of trial {source.name}")
