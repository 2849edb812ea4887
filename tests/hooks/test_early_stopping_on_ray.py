"""Runs on two Ray workers, and trials of sweeps, that stop early."""

import json
import os

import pytest

from ray_classy.errors import ComponentError
from ray_classy.hooks import EarlyStoppingHook
from ray_classy.trainer import RayTrainer
from ray_classy.tune import TaskTuner
from tests.helpers import equal_weights, make_task, weights
from tests.tune.sweeps import sweep_config

pytestmark = [pytest.mark.ray, pytest.mark.full]

WHY = "test.loss has not improved for 1 phase; its best is"


def stopping(patience=1):
    hook = EarlyStoppingHook("test.loss", patience=patience, min_delta=1000.0)
    return make_task(train=16, test=8, epochs=5, momentum=0.9, hooks=[hook])


def test_a_run_on_two_workers_ends_early_and_goes_on_with_more_patience(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    def trained(task, **place):
        trainer = RayTrainer(ScalingConfig(num_workers=2), **place)
        return trainer.train(task), task

    result, task = trained(stopping(), storage_path=str(tmp_path), name="r")
    assert result.stopped_early.startswith(WHY) and task.stopped_early == result.stopped_early
    assert task.done_training() and task.train_phase_idx + 1 == 2
    record = json.loads((tmp_path / "r/run.json").read_text())
    assert record["status"] == "finished" and record["stopped_early"] == result.stopped_early
    again, same = trained(stopping(), resume=result.path)
    assert again.stopped_early == result.stopped_early and equal_weights(weights(same), weights(task))
    more, longer = trained(stopping(patience=9), resume=result.path)
    assert more.stopped_early is None and longer.train_phase_idx + 1 == 5


def test_a_metric_that_is_not_reported_starts_no_worker(tmp_path):
    task = make_task(hooks=[EarlyStoppingHook("test.accuracy.top_7", patience=1)])
    with pytest.raises(ComponentError, match=r"no metric named 'test\.accuracy\.top_7' is reported: did you mean"):
        RayTrainer(storage_path=str(tmp_path)).train(task)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_stops_early_is_complete(ray_cluster, tmp_path, workers):
    hook = {"name": "early_stopping", "metric": "test.loss", "patience": 1}
    config = sweep_config(
        hooks=[{**hook, "min_delta": {"grid_search": [0.0, 1000.0]}}],
        tune={"num_samples": 1, "metric": "test.accuracy.top_1"},
        ray={"num_workers": workers, "resources_per_worker": {"CPU": 1}},
    )
    config["optimizer"] = {"name": "NAdam", "lr": 0.002}
    result = TaskTuner(config, trainer=RayTrainer(storage_path=str(tmp_path), name="s"), progress=False).fit()
    whole, early = result.trials
    assert [record.state for record in (whole, early)] == ["finished"] * 2
    assert (whole.epoch, whole.reason) == (3, None) and early.epoch == 2 and early.reason.startswith(WHY)
    with open(os.path.join(result.path, early.name, "run.json")) as file:
        assert json.load(file)["stopped_early"] == early.reason
