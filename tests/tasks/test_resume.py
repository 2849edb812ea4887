import logging

import pytest

from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, make_task
from tests.trainer.test_row_resume import Ledger, Stopped, small_task

SCHEDULE = {"name": "linear", "start_value": 1.0, "end_value": 0.0}


@pytest.fixture
def told(tmp_path, caplog):
    """What a run of two epochs logs about its length when it is resumed with another task."""
    path = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2)).path

    def lines(task):
        caplog.clear()
        with caplog.at_level(logging.INFO, "ray_classy"):
            LocalTrainer(resume=path).train(task)
        return [line for line in caplog.messages if line.startswith("the run ")]

    return lines


def test_a_finished_run_says_that_it_is(told):
    task = make_task(epochs=2)
    assert told(task) == ["the run is finished: 2 train phases are done. To train more, raise num_epochs"]
    assert task.num_train_steps == 12


def test_a_run_that_is_to_be_shorter_is_finished(told):
    (line,) = told(make_task(epochs=1))
    assert "2 train phases are done, and the config asks for 1" in line


def test_a_longer_run_goes_on_with_the_schedules_of_its_new_length_and_says_so(told):
    hook = RecordingHook(lambda task: task.optimizer.options_view.lr)
    (line,) = told(make_task(epochs=4, hooks=[hook], schedule=SCHEDULE))
    assert "has 4 train phases now, and had 2: 50% is done, and the schedules continue from there" in line
    assert hook.seen("on_start") == [0.5] and hook.seen("on_phase_end")[-1] == pytest.approx(1 / 24)


def test_a_run_of_the_same_length_says_nothing_of_it(tmp_path, caplog):
    with pytest.raises(Stopped):
        LocalTrainer(str(tmp_path), "r").train(small_task(Ledger(stop=15)))
    with caplog.at_level(logging.INFO, "ray_classy"):
        LocalTrainer(resume=str(tmp_path / "r")).train(small_task())
    assert not [line for line in caplog.messages if line.startswith("the run ")]


def test_a_run_inside_an_epoch_counts_the_epochs_that_are_over(tmp_path, caplog):
    with pytest.raises(Stopped):
        LocalTrainer(str(tmp_path), "r").train(small_task(Ledger(stop=15)))
    with caplog.at_level(logging.INFO, "ray_classy"):
        LocalTrainer(resume=str(tmp_path / "r")).train(small_task(epochs=4))
    assert any("has 4 train phases now, and had 2: 25% is done" in line for line in caplog.messages)
