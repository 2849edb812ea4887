"""A hook that keeps a run in MLflow."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ray_classy.errors import UnavailableError
from ray_classy.hooks.classy_hook import register_hook
from ray_classy.hooks.run_logger_hook import LoggedRun, RunLoggerHook

_STATUSES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_LONGEST_KEY, _LONGEST_VALUE = 250, 500
_MOST_PARAMS, _MOST_METRICS = 100, 500  # of a request
_SETTINGS = {  # MLflow's own patience is minutes, and it logs each table that it makes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_NOT_IN_NAMES = re.compile(r"[^\w\-./ :]")


@register_hook("mlflow")
class MLflowHook(RunLoggerHook):
    """Keeps a run in MLflow: config as parameters, metrics of each phase, and progress within phases; one run there.

    Needs the extra `mlflow`. A run that is resumed continues its MLflow run; config values that have changed since
    become tags, because parameters cannot change. Keys have at most 250 characters, values 500.

    Args:
        tracking_uri: of the server or store, such as `http://host:5000` or `sqlite:///mlflow.db`; None takes
            MLFLOW_TRACKING_URI, and without it MLflow's default.
        experiment: the name of the experiment, which is created if it is missing.
        tags: of the run.

    Raises:
        UnavailableError: the package mlflow is not installed.
    """

    def __init__(
        self, tracking_uri: str | None = None, experiment: str = "ray_classy", tags: dict[str, str] | None = None
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("mlflow") is None:
            raise UnavailableError("the hook mlflow needs its package: pip install 'ray_classy[mlflow]'")
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.tags = dict(tags or {})
        self._client: Any = None

    def open(self, run: LoggedRun, id: str | None) -> str:
        """Creates the MLflow run, or continues that of the earlier start if it still exists."""
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag
        from mlflow.exceptions import MlflowException

        self._client = MlflowClient(tracking_uri=self.tracking_uri)
        before: dict[str, str] = {}
        if id is not None:
            try:
                before = self._client.get_run(id).data.params
                self._client.update_run(id, status="RUNNING")
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                id = None
        if id is None:
            tags = {**self.tags, **({"run_folder": run.path} if run.path else {})}
            id = self._client.create_run(self._experiment_id(), tags=tags, run_name=run.name).info.run_id
        self._id = id
        config = {_name(key)[:_LONGEST_KEY]: str(value)[:_LONGEST_VALUE] for key, value in run.config.items()}
        new = [Param(key, value) for key, value in config.items() if key not in before]
        for batch in _batches(new, _MOST_PARAMS):
            self._client.log_batch(id, params=batch)
        changed = [RunTag(key, value) for key, value in config.items() if before.get(key, value) != value]
        for batch in _batches(changed, _MOST_PARAMS):
            self._client.log_batch(id, tags=batch)
        return id

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes values."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_name(name)[:_LONGEST_KEY], value, now, step) for name, value in values.items()]
        for batch in _batches(metrics, _MOST_METRICS):
            self._client.log_batch(self._id, metrics=batch)

    def finish(self, status: str, final: Mapping[str, float]) -> None:
        """Ends the MLflow run; its table shows the last value of each metric."""
        self._client.set_terminated(self._id, _STATUSES[status])

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self.experiment))
        except MlflowException:  # another run has just created it
            found = self._client.get_experiment_by_name(self.experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the client, which belongs to this process."""
        return {**super().__getstate__(), "_client": None}


def _name(text: str) -> str:
    """A name in which MLflow allows all characters."""
    return _NOT_IN_NAMES.sub("_", text)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    listed = list(items)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]
