"""What ends a sweep, and trials in it."""

import time

from ray_classy.tune.section import Stop


def test_a_time_budget_begins_with_the_first_question_and_ends_the_sweep():
    limits = Stop({}, 0.05)
    assert not limits.is_over()
    time.sleep(0.06)
    assert limits.is_over() and limits.over == "the time budget of 0.05 s is spent"


def test_ray_tune_ends_no_trial_before_it_is_told_to():
    limits = Stop({}, 0.0)
    limits.is_over()
    time.sleep(0.01)
    assert limits.is_over() and not limits.stop_all()
    limits.end_trials()
    assert limits.stop_all()


def test_a_threshold_is_reached_from_above_by_a_loss_and_from_below_by_others():
    limits = Stop({"test.loss": 0.1, "test.accuracy.top_1": 0.9}, None)
    assert limits.reason({"test.loss": 0.2, "test.accuracy.top_1": 0.8}) is None
    assert limits.reason({"test.loss": 0.1}) == "test.loss reached 0.1"
    assert limits.reason({"test.accuracy.top_1": 0.95}) == "test.accuracy.top_1 reached 0.9"
