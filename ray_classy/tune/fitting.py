"""The Ray Train run of a trial that has workers of its own."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray.train import RunConfig

from ray_classy.ray_compat import settings as settings_of_ray
from ray_classy.tasks import ClassyTask
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.ray_cluster import check_resources
from ray_classy.trainer.ray_config import RaySettings
from ray_classy.trainer.ray_connection import environment
from ray_classy.trainer.ray_fit import fit_trial, ray_storage
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.worker_group import GROUP_FILE, release

_ABORT_SECONDS = 15.0
_WAIT_SECONDS = 3600.0  # for room that was there when the sweep began, and that others have taken


class Fitting:
    """A Ray Train run in a thread of its own.

    Args:
        fit: trains, and returns what `fit_trial` returns.

    Attributes:
        over: set when it has ended.
        error: with which it ended, if it did.
        stopped: the message of a run that was asked to stop, if it was.
    """

    def __init__(self, fit: Callable[[], dict[str, Any]]) -> None:
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.stopped: str | None = None
        self._fit = fit
        threading.Thread(target=self._run, name="fit", daemon=True).start()

    def _run(self) -> None:
        try:
            self.stopped = self._fit().get("stopped")
        except BaseException as error:
            self.error = error
        finally:
            self.over.set()


@contextlib.contextmanager
def fitting_of(
    task: ClassyTask, run: RunFolder, settings: RaySettings, listeners: Sequence[Listener]
) -> Iterator[Fitting]:
    """A Ray Train run of the task; if the block is left before it is over, its workers are ended at once.

    Args:
        task: of the trial.
        run: the trial's folder.
        settings: of its workers.
        listeners: follow the session on each worker.
    """
    release(run)  # the resources of a process of this trial that was killed
    name = f"train-{os.urandom(3).hex()}"
    path, filesystem = ray_storage(run.path, run.storage.filesystem)
    keep = RunConfig(name=name, storage_path=path, storage_filesystem=filesystem)

    def fit() -> dict[str, Any]:
        with environment(settings_of_ray.TRAIN):
            check_resources(settings.scaling, _WAIT_SECONDS, settings.autoscaling)
            return fit_trial(task, run, settings, keep, listeners)

    fitting = Fitting(fit)
    try:
        yield fitting
    finally:
        began = time.monotonic()
        while not fitting.over.is_set() and time.monotonic() - began < _ABORT_SECONDS:
            if release(run):
                break
            time.sleep(0.1)
        run.storage.remove(name)
        run.storage.remove_file(GROUP_FILE)
