"""Ray Tune's trials and schedulers."""

import math
from types import SimpleNamespace

import pytest
from ray import tune
from ray.exceptions import RayActorError
from ray.tune import experiment
from ray.tune.experiment import Experiment, Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, PopulationBasedTraining

from ray_classy.errors import RunError
from ray_classy.ray_compat.tune import (
    error_of,
    is_running,
    is_terminated,
    make_trial,
    perturbation_interval,
    process_of,
    replay,
    restored_report,
)


@pytest.fixture
def common(tmp_path):
    """What the trials of a sweep have in common."""
    return Experiment("ray", tune.Trainable, storage_path=str(tmp_path), stop={"epoch": 3})


def test_a_trial_has_the_id_and_the_folder_that_it_is_given(common):
    trial = make_trial(common, "t0004", {"a": 1, "__source__": None}, {"a": 1})
    assert (trial.trial_id, trial.config["a"], trial.evaluated_params) == ("t0004", 1, {"a": 1})
    assert str(trial) == "t0004" and trial.stopping_criterion == {"epoch": 3}
    assert trial.custom_dirname == "t0004" and trial.status == "PENDING"


def test_without_trials_a_sweep_is_refused(hidden, common):
    hidden(experiment, "Trial")
    with pytest.raises(RunError, match="sweeps cannot run on Ray"):
        make_trial(common, "t0000", {}, {})


def test_the_report_of_the_checkpoint_that_a_trial_restores(common, hidden):
    trial = make_trial(common, "t0000", {}, {})
    assert restored_report(trial) == {}
    assert restored_report(SimpleNamespace(latest_checkpoint_result=SimpleNamespace(metrics={"trial": "b"}))) == {
        "trial": "b"
    }
    assert not hidden.lines()
    assert restored_report(SimpleNamespace()) == {} and len(hidden.lines()) == 1


def test_why_a_process_died_is_not_read_from_a_file(common, tmp_path, monkeypatch):
    trial = make_trial(common, "t0000", {}, {})
    assert error_of(trial) == "" and trial.get_pickled_error() is None
    monkeypatch.setattr(Trial, "local_path", str(tmp_path))
    trial.handle_error(RayActorError())
    with open(trial.pickled_error_file, "wb") as file:
        file.write(b"not a pickle")
    assert error_of(trial).startswith("RayActorError: The actor") and trial.get_pickled_error() is not None


def test_a_trial_that_ended_is_terminated(common):
    trial = make_trial(common, "t0000", {}, {})
    assert not is_terminated(trial)
    trial.set_status(Trial.RUNNING)
    assert is_running(trial) and not is_terminated(trial)
    trial.set_status(Trial.TERMINATED)
    assert is_terminated(trial) and not is_running(trial)


def test_the_process_of_a_trial(common, hidden):
    trial = make_trial(common, "t0000", {}, {})
    assert process_of(trial) is None
    process = SimpleNamespace()
    trial.temporary_state.ray_actor = process
    assert process_of(trial) is process and not hidden.lines()
    assert process_of(SimpleNamespace()) is None and len(hidden.lines()) == 1


def test_the_interval_of_population_based_training(hidden):
    space = {"a": [1, 2]}
    scheduler = PopulationBasedTraining(perturbation_interval=7, hyperparam_mutations=space)
    assert perturbation_interval(scheduler) == 7 and not hidden.lines()
    del scheduler._perturbation_interval
    assert perturbation_interval(scheduler) == math.inf and len(hidden.lines()) == 1


def reports(values):
    return [{"training_iteration": number, "score": value} for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    "scheduler",
    [
        AsyncHyperBandScheduler(metric="score", mode="max", grace_period=1, reduction_factor=2),
        MedianStoppingRule(
            metric="score", mode="max", time_attr="training_iteration", grace_period=0, min_samples_required=1
        ),
    ],
    ids=["asha", "median"],
)
def test_earlier_results_count_for_the_trials_that_follow(scheduler, common, hidden):
    for number in range(4):
        replay(scheduler, f"t{number:04d}", reports([10.0, 10.0]))
    assert not hidden.lines()
    bad = make_trial(common, "t0009", {}, {})
    controller = SimpleNamespace(search_alg=None, get_trials=lambda: [bad], get_live_trials=lambda: {bad})
    scheduler.on_trial_add(controller, bad)
    assert scheduler.on_trial_result(controller, bad, reports([1.0])[0]) == scheduler.STOP


def test_a_scheduler_that_asks_for_more_goes_without(hidden):
    class Curious(AsyncHyperBandScheduler):
        def on_trial_result(self, controller, trial, result):
            return trial.config["a"]

    replay(Curious(metric="score", mode="max"), "t0000", reports([1.0]))
    assert "does without config" in hidden.lines()[0]


def test_a_schedulers_own_mistake_is_raised():
    class Wrong(AsyncHyperBandScheduler):
        def on_trial_result(self, controller, trial, result):
            return self.no_such

    with pytest.raises(AttributeError, match="no_such"):
        replay(Wrong(metric="score", mode="max"), "t0000", reports([1.0]))
