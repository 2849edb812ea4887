"""The `ray` section of a config."""

import pytest

from ray_classy.config import problems_in
from ray_classy.config.ray_options import RayOptions, resource_problems


def wrong(section):
    return [problem.message for problem in problems_in(section, RayOptions.keys(), ("ray",))]


def test_null_takes_the_default():
    assert RayOptions.of({"num_workers": None, "backend": None}) == RayOptions()


def test_an_elastic_number_of_workers_is_a_pair():
    assert RayOptions.of({"num_workers": [1, 4]}).num_workers == (1, 4)


def test_what_is_given_differs_from_the_defaults():
    assert RayOptions.of({"num_workers": 1, "max_failures": 3}).given() == {"max_failures": 3}


@pytest.mark.parametrize("mode, problems", [("ASYNC", 0), ("SYNC", 0), ("NO_UPLOAD", 1)])
def test_there_is_no_upload_mode_that_writes_nothing(mode, problems):
    assert len(wrong({"checkpoint_upload_mode": mode})) == problems


def test_resources_have_the_names_that_ray_gives_them():
    names = {"cpu": 1, "Gpu": 1, "MEMORY": 1, "CPU": 1, "GPU": 1, "memory": 1, "custom": 1}
    problems = resource_problems(names, ("ray",))
    assert [(problem.path[-1], problem.message.split()[-1]) for problem in problems] == [
        ("cpu", "CPU"),
        ("Gpu", "GPU"),
        ("MEMORY", "memory"),
    ]


def test_a_typo_is_reported_with_the_nearest_key():
    assert "num_workers" in wrong({"num_worker": 2})[0]
