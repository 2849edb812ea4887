"""Limits on restarts, as each Ray takes them."""

import warnings

import pytest
from ray.util.annotations import RayDeprecationWarning

from ray_classy.ray_compat.data import map_batches


class Earlier:
    """As in Ray 2.57."""

    def map_batches(self, fn, *, num_cpus=None, **more):
        return more


class Later:
    """Where limits have names."""

    def map_batches(self, fn, *, num_cpus=None, max_retries=0):
        return {"max_retries": max_retries}


class Without:
    """Where there are no limits."""

    def map_batches(self, fn, *, num_cpus=None):
        return {}


@pytest.mark.parametrize("dataset", [Earlier(), Later()])
def test_limits_are_passed_on(dataset, hidden):
    assert map_batches(dataset, len, {"max_retries": 3}, num_cpus=1) == {"max_retries": 3}
    assert not hidden.lines()


def test_that_there_are_no_limits_is_logged(hidden):
    assert map_batches(Without(), len, {"max_retries": 3}) == {}
    assert "max_retries of Dataset.map_batches: a process that dies again and again" in hidden.lines()[0]


@pytest.mark.ray
def test_the_installed_ray_takes_limits_without_a_warning(ray_cluster, hidden):
    import ray.data

    with warnings.catch_warnings():
        warnings.simplefilter("error", RayDeprecationWarning)
        rows = map_batches(ray.data.range(3), lambda batch: batch, {"max_retries": 0}, batch_format="pyarrow")
    assert [row["id"] for row in rows.take_all()] == [0, 1, 2] and not hidden.lines()
