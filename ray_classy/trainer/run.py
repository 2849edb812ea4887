"""A run from its opening to its end: the one way in which trainers, sweeps and trials open, describe and end a run."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ray_classy.config import dump_yaml, resolve
from ray_classy.errors import RunFolderError, RunStopped
from ray_classy.redact import redacted_values
from ray_classy.tasks import TASK_REGISTRY, ClassyTask
from ray_classy.tasks.task_config import RESERVED
from ray_classy.trainer.result import Result
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_metrics import latest_by_phase_type
from ray_classy.trainer.run_spec import RunSpec

Folder = TypeVar("Folder", bound=RunFolder)

_REPORTS = "ray_classy.report.at_end"
"""The module that writes reports, by its name, as a registry knows components: it imports this package."""

FINISHED, FAILED, INTERRUPTED, STOPPED = "finished", "failed", "interrupted", "stopped"


class Run(Generic[Folder]):
    """Opens and locks the folder of a run for a `with` block, and records in it how the block ended.

    A run that ends by an error before anything happened in it leaves no folder behind, if this process made the folder.

    Args:
        open_folder: makes or opens the folder, and locks it.
        describe: records in the folder what is run.
        reports: whether a report is written once the run has finished.

    Attributes:
        folder: available inside the block.
    """

    folder: Folder

    def __init__(
        self,
        open_folder: Callable[[], Folder],
        describe: Callable[[Folder], None] = lambda folder: None,
        reports: bool = False,
    ) -> None:
        self._open_folder = open_folder
        self._describe = describe
        self._reports = importlib.import_module(_REPORTS) if reports else None
        if self._reports is not None:
            self._reports.check_installed()  # not after days of training

    @classmethod
    def of_task(cls, task: ClassyTask, spec: RunSpec) -> Run[RunFolder]:
        """The run of a task that is trained by itself."""

        def describe_start(folder: RunFolder) -> None:
            metric = spec.retention.metric
            ranking: dict[str, Any] = {} if metric is None else {"metric": metric, "mode": spec.retention.order}
            describe(folder, task, **spec.facts, **ranking)
            folder.requests.forget()  # what was asked of an earlier start

        return Run(spec.open_folder, describe_start, bool((task.built_from or {}).get("report")))

    @classmethod
    def of_trial(cls, task: ClassyTask, folder: RunFolder, command: Sequence[str], **facts: Any) -> Run[RunFolder]:
        """The run of a trial, in a folder of its sweep, whose lock protects it; it may be asked to stop as it starts.

        Args:
            task: of the trial.
            folder: of the trial.
            command: what started the sweep.
            facts: recorded beside those of every run.
        """
        return Run(lambda: folder, lambda folder: describe(folder, task, list(command), **facts))

    def __enter__(self) -> Self:
        self.folder = self._open_folder()
        try:
            self._describe(self.folder)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        folder = self.folder
        try:
            if error is None:
                folder.finish(FINISHED, stopped_early=folder.metrics.stopped_early())
            else:
                # A folder that cannot be written, or is another process's by now, must not hide what happened.
                with contextlib.suppress(OSError, RunFolderError):
                    if folder.described:  # what is refused leaves an earlier run as it is
                        folder.finish(*_ending(error))
                folder.remove_if_unused()
        finally:
            folder.release()
        if error is None and self._reports is not None:
            self._reports.write_at_end(folder.path)

    def result(self) -> Result:
        """What the run has left in its folder."""
        return result_of(self.folder)


def _ending(error: BaseException) -> tuple[str, str | None]:
    """The status of a run that an exception ended, and the error to record."""
    if isinstance(error, GeneratorExit):
        return STOPPED, None
    if isinstance(error, KeyboardInterrupt | RunStopped):
        return INTERRUPTED, None
    return FAILED, f"{type(error).__name__}: {error}"


def describe(folder: RunFolder, task: ClassyTask, command: list[str] | None = None, **facts: Any) -> None:
    """Records in a folder the task that is trained: its resolved config, if it has one, its seed and its class."""
    text = None
    if task.config is not None:
        text = dump_yaml(redacted_values(resolve(task.config, TASK_REGISTRY, sections=RESERVED)))
    folder.describe(text, command, seed=task.seed, task=type(task).__name__, **facts)


def result_of(folder: RunFolder) -> Result:
    """What a run has left in its folder."""
    lines = folder.metrics.lines()
    return Result(
        latest_by_phase_type(lines),
        lines,
        folder.checkpoints.latest(),
        folder.path,
        folder.checkpoints.best(),
        lines[-1].get("stopped_early") if lines else None,
    )
