"""A trial that is asked to stop, in this process and without Ray."""

import os
from types import SimpleNamespace

import pytest

from ray_classy.errors import RunStopped
from ray_classy.hooks import EarlyStoppingHook
from ray_classy.trainer.classy_trainer import rounds
from ray_classy.trainer.run import Run
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession
from ray_classy.tune.folder import Reports
from ray_classy.tune.trial import TaskTrial, TrialReporter
from tests.helpers import make_task


class Alone(TaskTrial):
    """A trial of two epochs."""

    trial_id = "t0000"
    hooks = ()

    def __init__(self, folder):
        self._job = SimpleNamespace(folder=str(folder), filesystem=None, metric="test.loss", workers=1)
        self._last, self._reported, self.run = {}, 0, RunFolder(str(folder / "t0000"))
        self._rounds = self._trained()

    def _trained(self):
        task = make_task(epochs=2, hooks=self.hooks)
        with Run.of_trial(task, self.run, ["tune"]):
            for report in rounds(task, FolderSession(self.run, listeners=[TrialReporter()])):
                yield {**report, "done": task.done_training()}

    @property
    def status(self):
        return self.run.record.facts()["status"]


@pytest.fixture
def trial(tmp_path):
    os.mkdir(tmp_path / "t0000")
    return Alone(tmp_path)


def test_a_trial_may_be_asked_to_stop_before_it_starts(trial):
    trial.run.requests.stop()
    assert trial.step()["interrupted"].endswith("epoch_0000-step_000001")
    assert trial.status == "interrupted" and not trial.run.requests.stop_requested()


def test_a_trial_that_is_asked_to_stop_between_two_reports_goes_on_to_its_next_step(trial):
    trial.step()
    trial.run.requests.stop()
    trial.cleanup()
    assert trial.status == "interrupted" and trial.run.checkpoints.names()[-1] == "epoch_0001-step_000007"
    assert [line["phase_type"] for line in trial.run.metrics.lines()] == ["train", "test"]


def test_a_trial_that_is_ended_without_being_asked_stops_where_it_is(trial):
    trial.step()
    trial.cleanup()
    assert trial.status == "stopped" and trial.run.checkpoints.names() == ["epoch_0001-step_000006"]


def test_a_trial_that_stopped_reports_what_is_left_of_its_rounds(trial):
    trial.run.requests.stop()
    trial.step()
    trial._rounds = trial._trained()
    results = [trial.step(), trial.step()]
    assert [(result["epoch"], result["done"]) for result in results] == [(1, False), (2, True)]
    assert [report["epoch"] for report in Reports(trial.run.storage).read()] == [1, 2]


def test_what_ray_tune_asks_a_finished_trial_for_leaves_it_finished(trial):
    trial.step()
    trial.step()
    trial.run.requests.stop()
    trial.cleanup()
    assert trial.status == "finished"


def test_a_stop_is_no_failure_in_the_log(trial):
    trial.run.requests.stop()
    with pytest.raises(RunStopped):
        list(trial._rounds)
    assert trial.run.record.facts().get("error") is None


def test_a_trial_that_stops_early_is_done_and_says_why(trial):
    trial.hooks = [EarlyStoppingHook("test.loss", stop_at=1e9)]
    result = trial.step()
    assert result["done"] and result["epoch"] == 1 and result["stopped_early"].startswith("test.loss is ")
    assert trial.status == "finished" and trial.run.record.facts()["stopped_early"] == result["stopped_early"]
    assert Reports(trial.run.storage).read()[-1]["stopped_early"] == result["stopped_early"]
