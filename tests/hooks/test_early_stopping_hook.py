import json

import pytest
import torch

from ray_classy.errors import ArgumentTypeError, ComponentError, DamagedCheckpointError
from ray_classy.hooks import EarlyStoppingHook, build_hook
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer import LocalTrainer
from tests.helpers import equal_weights, make_task, run_ranks, train, weights


class Scripted(ClassificationTask):
    """A task whose test loss is the next of some values; by rank the last digits differ."""

    values = (0.9, 0.5, 0.6, 0.49, 0.7, 0.8, 0.1, 0.1)
    offset = 0.0

    def phase_metrics(self):
        metrics = super().phase_metrics()
        return metrics if self.train else {**metrics, "loss": self.values[self.train_phase_idx] + self.offset}


def task_with(epochs=8, test_phase_period=1, cls=Scripted, **options):
    hook = EarlyStoppingHook(**{"metric": "test.loss", "patience": 2, **options})
    task = make_task(train=8, test=4, epochs=epochs, cls=cls, hooks=[hook], momentum=0.9)
    return task.set_test_phase_period(test_phase_period)


@pytest.mark.parametrize(
    "options, epochs",
    [
        ({}, 6),
        ({"patience": 1}, 3),
        ({"min_delta": 0.02}, 4),
        ({"patience": 9}, 8),
        ({"mode": "max"}, 3),
        ({"patience": None, "stop_at": 0.5}, 2),
        ({"patience": None, "stop_at": 0.95, "mode": "max"}, 8),
        ({"metric": "test.accuracy.top_1", "patience": None, "stop_at": 0.0}, 1),
        ({"metric": "train.loss", "patience": None, "stop_at": 1e9}, 1),
        ({"patience": 1, "test_phase_period": 2}, 6),
    ],
)
def test_a_run_ends_when_the_metric_no_longer_improves(options, epochs):
    task = train(task_with(**options))
    assert task.train_phase_idx + 1 == epochs and not task.train and task.done_training()
    assert (task.stopped_early is None) == (epochs == 8)


def test_record_result_and_metrics_say_why(tmp_path):
    result = LocalTrainer(str(tmp_path), "r").train(task_with())
    why = "test.loss has not improved for 2 phases; its best is 0.49, of epoch 4"
    record = json.loads((tmp_path / "r/run.json").read_text())
    assert result.stopped_early == why == record["stopped_early"] and record["status"] == "finished"
    assert [line.get("stopped_early") for line in result.metrics_history] == [None] * 11 + [why]
    assert result.checkpoint.endswith("epoch_0006-step_000012")
    assert LocalTrainer(str(tmp_path), "whole").train(task_with(epochs=1)).stopped_early is None


def test_a_resumed_run_has_ended_and_says_how_to_go_on(tmp_path, caplog):
    LocalTrainer(str(tmp_path), "r").train(task_with())
    task = task_with()
    result = LocalTrainer(resume=str(tmp_path / "r")).train(task)
    assert task.num_train_steps == 12 and result.stopped_early and len(result.metrics_history) == 12
    assert "has stopped early: test.loss has not improved for 2 phases" in caplog.text
    assert "resume it with a larger patience" in caplog.text


def test_more_patience_goes_on_as_a_run_that_never_stopped(tmp_path):
    whole, resumed = task_with(patience=5), task_with(patience=5)
    train(whole)
    LocalTrainer(str(tmp_path), "r").train(task_with())
    result = LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert equal_weights(weights(whole), weights(resumed)) and resumed.train_phase_idx == 7
    assert result.stopped_early is None and "stopped_early" not in json.loads((tmp_path / "r/run.json").read_text())


def test_the_state_is_kept_across_an_interruption(tmp_path):
    LocalTrainer(str(tmp_path), "r").train(task_with(epochs=5))
    task = task_with()
    LocalTrainer(resume=str(tmp_path / "r")).train(task)
    assert task.train_phase_idx + 1 == 6
    fresh = task_with()
    fresh.set_hooks(task.hooks)
    assert train(fresh).train_phase_idx + 1 == 6


def ranks_end_together():
    task = task_with()
    task.offset = float(torch.distributed.get_rank())
    train(task)
    return task.train_phase_idx, task.stopped_early


@pytest.mark.full
def test_all_ranks_end_together_whatever_they_measured():
    one, other = run_ranks(2, ranks_end_together)
    assert one == other and one[0] == 5


def test_an_evaluation_is_not_ended():
    assert train(task_with().set_test_only(True).set_num_epochs(1)).stopped_early is None


def test_a_metric_that_is_not_reported_is_an_error_before_the_run(tmp_path):
    with pytest.raises(ComponentError, match=r"no metric named 'test\.acuracy\.top_1' .* did you mean 'test\.accuracy"):
        LocalTrainer(str(tmp_path)).train(task_with(metric="test.acuracy.top_1", cls=ClassificationTask))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"metric": "accuracy"}, "metric must be a name such as"),
        ({"mode": "up"}, "mode must be"),
        ({"patience": 0}, "patience must be an integer"),
        ({"patience": None}, "needs patience, a number of phases, or stop_at"),
        ({"min_delta": -1}, "min_delta must be at least 0"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ComponentError, match=message):
        build_hook({"name": "early_stopping", "metric": "test.loss", "patience": 3, **wrong})
    with pytest.raises(ArgumentTypeError, match="stop_at must be a number"):
        EarlyStoppingHook("test.loss", stop_at="low")


def test_a_damaged_state_is_refused():
    with pytest.raises(DamagedCheckpointError, match="hook 'EarlyStoppingHook' is damaged"):
        EarlyStoppingHook("test.loss", patience=1).set_classy_state({"last": "x"})
