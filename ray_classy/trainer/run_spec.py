"""What is decided about a run before it begins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ray_classy.config.code import in_run
from ray_classy.job_driver import submitted_config
from ray_classy.tasks import ClassyTask, check_task
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.urls import is_url

if TYPE_CHECKING:
    from ray_classy.trainer.ray_outline import RayOutline


@dataclass(frozen=True)
class RunSpec:
    """A run, from a command or from the arguments of a trainer; it is made once and passed on as it is.

    Attributes:
        config: the checked config that the task was built from; None if it was built in Python.
        facts: what `run.json` keeps beside command and versions: `config_file`, beside which modules named under
            `imports` are searched, and `given`, what the command gave.
        storage_path: the folder of runs; None is `runs` in the working directory.
        name: the run's name; None makes one from the time.
        resume: the folder of an earlier run, in place of the other two.
        filesystem: a `pyarrow.fs.FileSystem` in which the folder lies; None finds it from the path.
        retention: which checkpoints are kept.
        ray: workers, failure policy, upload mode and cluster of a run on Ray; `RaySettings` if it is to be started.
            None for a run without Ray.
    """

    config: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    storage_path: str | None = None
    name: str | None = None
    resume: str | None = None
    filesystem: Any = None
    retention: Retention = field(default_factory=Retention)
    ray: RayOutline | None = None

    @classmethod
    def of_task(cls, task: ClassyTask, **options: Any) -> RunSpec:
        """The spec of a run that a trainer's arguments describe.

        Args:
            task: its config gives the retention, if `options` do not.
            options: the attributes that are known.

        Raises:
            TaskError: the task is not a ClassyTask.
        """
        check_task(task)
        config = task.built_from
        file = getattr(config, "file", None)
        facts = config_file_fact(file)
        options.setdefault("retention", Retention.of((config or {}).get("ray")))
        return cls(config=config, facts=facts, **options)

    @property
    def world_size(self) -> int:
        """Number of ranks; of an elastic run, the largest."""
        return self.ray.most_workers if self.ray is not None else 1

    @property
    def on_gpu(self) -> bool | None:
        """Whether the workers have GPUs; None where each process finds out."""
        return self.ray.use_gpu if self.ray is not None else None

    def check_place(self) -> RunFolder:
        """The folder of the run; nothing is made.

        Raises:
            RunFolderError: the name is taken, or there is no such run.
        """
        if self.resume is not None:
            return RunFolder.existing(self.resume, self.filesystem)
        return RunFolder.planned(self.storage_path, self.name, self.filesystem)

    def open_folder(self) -> RunFolder:
        """Makes the folder of a new run, or opens that of an earlier one, and locks it.

        Raises:
            RunFolderError: the name is taken, there is no such run, or another process trains in it.
        """
        if self.resume is not None:
            return RunFolder.resume(self.resume, self.filesystem)
        return RunFolder.create(self.storage_path, self.name, self.filesystem)


def config_file_fact(file: str | None) -> dict[str, Any]:
    """The entry of `run.json` for the file that a config was read from, if it was read from one."""
    file = submitted_config() or file
    if not file or (not is_url(file) and in_run(os.path.dirname(os.path.abspath(file)))):
        return {}
    return {"config_file": file if is_url(file) else os.path.abspath(file)}
