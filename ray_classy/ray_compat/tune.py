"""Ray Tune: trials and schedulers."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.errors import RunError
from ray_classy.ray_compat import find, log_missing

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


def make_trial(experiment: Any, name: str, config: dict[str, Any], params: dict[str, Any]) -> Trial:
    """A trial of Ray Tune with an id and a folder name of its own.

    Tune's public `Searcher` interface draws a new id for each trial; a sweep that resumes needs the former one. Serves
    "resumes exactly". Ray 2.57 to 2.60 have it. There is no public substitute: population based training copies the
    whole config between trials, so that an id cannot be kept there.

    Args:
        experiment: what Tune passed to `add_configurations`.
        name: the trial's id.
        config: what the trainable gets.
        params: the part of it that is searched.

    Raises:
        RunError: this Ray has no such trials.
    """
    kind = find("ray.tune.experiment:Trial", "sweeps cannot run")
    if kind is None:
        import ray

        raise RunError(f"sweeps cannot run on Ray {ray.__version__}: use Ray 2.57 to 2.60, or train without a sweep")
    spec = experiment.public_spec
    return _keeping_errors(kind)(
        experiment.run_identifier,
        config=config,
        trial_id=name,
        storage=experiment.storage,
        evaluated_params=params,
        experiment_tag=name,
        stopping_criterion=spec.get("stop") if isinstance(spec.get("stop"), dict) else None,
        checkpoint_config=experiment.checkpoint_config,
        trial_name_creator=_id_of,
        trial_dirname_creator=_id_of,
        max_failures=experiment.spec.get("max_failures", 0),
    )


_errors: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


@functools.cache
def _keeping_errors(kind: type) -> Any:
    """Trials that keep their last error in memory.

    Tune writes it to a file, and unpickles it from there; the folder of a cluster's session is open to all users of the
    machine. Ray 2.57 to 2.60 have both methods. Where one has another name, Tune's own is called.
    """

    class KeepingTrial(kind):
        def handle_error(self, exc: Any = None) -> None:
            _errors[self] = exc
            super().handle_error(exc)

        def get_pickled_error(self) -> Any:
            return _errors.get(self)

    return KeepingTrial


def _id_of(trial: Trial) -> str:
    return trial.trial_id


def restored_report(trial: Trial) -> Mapping[str, Any]:
    """The report with the checkpoint that a trial restores, its own or another trial's; empty if there is none.

    Population based training says nowhere else whose checkpoint a trial gets. Serves "resumes exactly". Ray 2.57 to
    2.60 have it. Without it a sweep that is interrupted in between starts the trial from its own checkpoint.
    """
    if not hasattr(trial, "latest_checkpoint_result"):
        log_missing("Trial.latest_checkpoint_result", "whose checkpoint a trial restores is not recorded")
        return {}
    result = trial.latest_checkpoint_result
    return {} if result is None else result.metrics


def error_of(trial: Trial) -> str:
    """Why a trial's process died, as "Type: message"; empty if Tune did not keep it.

    A trial of `make_trial` keeps it. Without it the sweep's table only says that the process died.
    """
    error = _errors.get(trial)
    return "" if error is None else f"{type(error).__name__}: {error}"


def is_running(trial: Trial) -> bool:
    """Whether a trial has a process and is not paused."""
    return trial.status == "RUNNING"


def process_of(trial: Trial) -> Any:
    """The actor of a trial that runs; None if Tune does not say it.

    Tune gives an actor ten seconds to end. Serves "ends soon": one that is busy is ended before. Ray 2.57 to 2.60 have
    it. Without it Tune's ten seconds apply.
    """
    state = getattr(trial, "temporary_state", None)
    if not hasattr(state, "ray_actor"):
        log_missing("Trial.temporary_state.ray_actor", "a sweep that is stopped may wait ten seconds for a trial")
    return getattr(state, "ray_actor", None)


def is_terminated(trial: Trial) -> bool:
    """Whether a trial ended without an error."""
    return trial.status == "TERMINATED"


def perturbation_interval(scheduler: Any) -> float:
    """After how many epochs population based training copies checkpoints between trials.

    A scheduler does not say it in public. Serves "resumes exactly": checkpoints that another trial may copy are not
    removed. Ray 2.57 to 2.60 have it. Without it no checkpoint is removed during the sweep.
    """
    if not hasattr(scheduler, "_perturbation_interval"):
        log_missing("PopulationBasedTraining._perturbation_interval", "all checkpoints are kept during the sweep")
        return math.inf
    return scheduler._perturbation_interval


def replay(scheduler: Any, trial_id: str, reports: Iterable[Mapping[str, Any]]) -> None:
    """Shows a scheduler the reports of a trial of an earlier start; its decisions are ignored.

    Tune restores schedulers only from its own snapshots, whose search space must not change. Serves "resumes exactly":
    the results of finished trials count for those that follow. Ray 2.57 to 2.60's `AsyncHyperBandScheduler` and
    `MedianStoppingRule` ask a trial only for its id, and the controller only for its trials. A scheduler that asks for
    more goes without the earlier results.
    """
    past, controller = _PastTrial(trial_id), _NoController()
    try:
        scheduler.on_trial_add(controller, past)
        for report in reports:
            scheduler.on_trial_result(controller, past, report)
    except AttributeError as error:
        if error.obj is not past and error.obj is not controller:
            raise
        lacking = f"{type(scheduler).__name__} that does without {error.name} of a trial"
        log_missing(lacking, "it does not see the results of earlier starts")


class _PastTrial:
    """A trial of an earlier start, as far as schedulers look at it."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class _NoController:
    """A controller of Ray Tune without trials."""

    search_alg = None

    def get_trials(self) -> list[Any]:
        return []

    def get_live_trials(self) -> set[Any]:
        return set()
