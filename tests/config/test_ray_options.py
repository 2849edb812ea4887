"""The `ray` section of a config."""

import pytest

from ray_classy.config import problems_in
from ray_classy.config.ray_options import RayOptions, address_problem, resource_problems


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


def test_the_runtime_environment_is_checked_without_ray():
    assert not wrong({"runtime_env": {"env_vars": {"A": "1"}, "pip": ["emoji"], "py_modules": ["s3://b/m.zip"]}})
    assert "env_vars" in wrong({"runtime_env": {"env_var": {"A": "1"}}})[0]
    assert wrong({"runtime_env": {"env_vars": {"A": 1}}}) and wrong({"object_store_memory": "1 GB"})
    assert RayOptions.of({"runtime_env": {"pip": None, "conda": "e"}}).runtime_env == {"conda": "e"}


@pytest.mark.parametrize(
    "address", ["auto", "local", "localhost:6379", "10.0.0.1:6379", "[::1]:6379", "ray://head:10001"]
)
def test_addresses(address):
    assert address_problem(address) is None


@pytest.mark.parametrize(
    "address", ["localhost", "", "http://h:1", "h:0", "h:1:2", "h:port", "ray://h", "h:1/x", "h :1"]
)
def test_what_is_no_address(address):
    assert "expected host:port" in address_problem(address)


def test_a_typo_is_reported_with_the_nearest_key():
    assert "num_workers" in wrong({"num_worker": 2})[0]
