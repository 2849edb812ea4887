"""How many trials run at once."""

import math

import pytest

from ray_classy.tune.plan import beside_pipelines, share_of_head


@pytest.mark.parametrize(
    ("trials", "cpus", "of_a_trial", "expected"),
    [
        (4, 4.0, 1.0, 2),
        (2, 4.0, 2.0, 1),
        (2, 9.0, 3.5, 2),
        (2, 9.0, 4.0, 1),
        (6, 4.0, 0.6, 2),
        (8, 4.0, 0.0, 4),  # of GPUs alone
        (3, 64.0, 1.0, 3),
    ],
)
def test_each_trial_leaves_a_cpu_to_the_pipeline_of_its_dataset(trials, cpus, of_a_trial, expected):
    assert beside_pipelines(trials, cpus, of_a_trial) == expected


@pytest.mark.parametrize("trials", range(1, 21))
def test_shares_are_there_for_so_many_trials_and_no_more(trials):
    units = math.floor(share_of_head(trials) * 10_000)  # as Ray counts them
    assert trials * units <= 10_000 - trials < 10_000 < (trials + 1) * units
