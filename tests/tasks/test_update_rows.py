import logging

import pytest

from ray_classy.tasks import update_rows
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task, train


@pytest.fixture
def ranks(monkeypatch):
    """Sets the number of ranks that the module sees."""
    return lambda number: monkeypatch.setattr(update_rows, "get_world_size", lambda: number)


def rows_per_step(task):
    return task.datasets["train"].get_batchsize_per_replica()


@pytest.mark.parametrize(("now", "period"), [(4, 1), (2, 2), (1, 4)])
def test_an_elastic_run_has_the_updates_of_its_full_size(ranks, now, period):
    ranks(now)
    task = make_task()
    row = rows_per_step(task)
    assert task.keep_update_rows(None, 4) == {"replica": row, "update": 4 * row}
    assert task.wanted_period == period and task.simulated_global_batchsize is None


def test_a_run_that_goes_on_with_fewer_ranks_keeps_its_updates(ranks):
    ranks(1)
    task = make_task()
    row = rows_per_step(task)
    assert task.keep_update_rows({"replica": row, "update": 3 * row}, None)["update"] == 3 * row
    assert task.wanted_period == 3


def test_a_task_that_is_trained_again_has_the_updates_of_the_new_run(ranks, tmp_path):
    ranks(1)
    task = make_task(train=24, batch=4)
    task.keep_update_rows(None, 4)
    assert task.wanted_period == 4
    assert task.keep_update_rows(None, None) == {"replica": 4, "update": 4} and task.wanted_period == 1
    LocalTrainer(str(tmp_path)).train(task)
    assert train(task.set_simulated_global_batchsize(8)).optimizer_period == 2


def test_a_loop_without_a_folder_has_the_updates_that_the_task_asks_for(ranks):
    ranks(1)
    task = make_task(train=24, batch=4).set_simulated_global_batchsize(8)
    task.wanted_period = 1  # as an earlier run left it
    assert train(task).optimizer_period == 2


def test_what_does_not_divide_is_told_and_remembered(ranks, caplog):
    ranks(2)
    task = make_task()
    row = rows_per_step(task)
    with caplog.at_level(logging.WARNING):
        kept = task.keep_update_rows({"replica": row, "update": 3 * row}, None)
    assert kept["update"] == 3 * row and f"not {3 * row}, which does not divide" in caplog.text


def test_another_batch_size_changes_the_update(ranks):
    ranks(1)
    task = make_task()
    row = rows_per_step(task)
    assert task.keep_update_rows({"replica": row + 1, "update": 3 * row + 3}, None)["update"] == row
    assert task.wanted_period == 1


def test_a_batch_size_that_the_user_simulates_is_left(ranks):
    ranks(1)
    task = make_task()
    task.set_simulated_global_batchsize(6 * rows_per_step(task))
    task.keep_update_rows({"replica": rows_per_step(task), "update": 1}, None)
    assert task.simulated_global_batchsize == 6 * rows_per_step(task) and task.wanted_period is None
