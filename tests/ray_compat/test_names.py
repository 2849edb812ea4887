"""Private names of Ray: where they stand in this package, and that the installed Ray has them."""

import importlib
import logging
import pathlib
import re

import pytest
import ray

import ray_classy
from ray_classy.ray_compat import find, log_missing, settings

PACKAGE = pathlib.Path(ray_classy.__file__).parent
RAY = pathlib.Path(ray.__file__).parent
PRIVATE = re.compile(
    r"\bray\._(?!_)|\bray\.[\w.]+\._\w|_internal\b|gcs_pb2|autoscaler_pb2|_per_worker_not_none|get_dashboard_url"
    r"|_sigint_handler|_create_default_callbacks|_perturbation_interval|available_resources_per_node|iter_internal"
    r"|BlockAccessor|ray_train_run-|\"DEPRECATED\"|checkpoint_manager_snapshot|\bRAY_(?!CLASSY_|ADDRESS\b|KEYS\b)[A-Z]|\bTUNE_[A-Z]{3}"
)
ENTRIES = "".join(file.read_text() for file in (PACKAGE / "ray_compat").glob("*.py"))
PATHS = sorted(set(re.findall(r'"(ray\.[\w.]+:[\w.]+)"', ENTRIES)))


def test_they_are_named_in_ray_compat_only():
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "ray_compat"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE.search(line)
    ]
    assert not found


@pytest.mark.parametrize("path", PATHS)
def test_the_installed_ray_has_each(path):
    assert find(path, "the test fails") is not None


def test_there_are_names_to_check():
    assert len(PATHS) >= 8


@pytest.fixture(scope="module")
def rays_text():
    """The source of the parts of Ray that read settings."""
    folders = ("train", "tune", "air", "data", "_private", "_common", "dashboard/modules/job")
    return "\n".join(path.read_text() for folder in folders for path in (RAY / folder).rglob("*.py"))


NAMES = [*settings.TRAIN, *settings.LOCAL, *settings.TUNE, settings.START_TIMEOUT, *settings.pending_trials(1)]
NAMES += [*settings.JOB, *settings.JOB_ADDRESSES]


@pytest.mark.parametrize("name", [*filter(str.isupper, NAMES), "RAY_JOB_CONFIG_JSON_ENV_VAR"])
def test_the_installed_ray_reads_each_setting(rays_text, name):
    assert re.search(rf"\b{name}\b", rays_text)


def test_rays_daemon_reads_each_setting_that_has_its_own_spelling():
    names = [name.removeprefix("RAY_").encode() for name in NAMES if not name.isupper()]
    daemon = (RAY / "core/src/ray/raylet/raylet").read_bytes()
    assert names and all(name in daemon for name in names)


def test_a_name_that_is_missing_is_logged_once(caplog):
    log_missing.cache_clear()
    with caplog.at_level(logging.WARNING, "ray_classy"):
        assert [find("ray._private.state:no_such", "nothing is lost") for _ in range(3)] == [None] * 3
        assert find("ray.no_such_module:name", "nothing is lost") is None
    assert caplog.messages == [
        f"Ray {ray.__version__} has no ray._private.state.no_such: nothing is lost",
        f"Ray {ray.__version__} has no ray.no_such_module.name: nothing is lost",
    ]


def test_no_entry_imports_ray_before_it_is_used():
    for file in (PACKAGE / "ray_compat").glob("*.py"):
        module = "ray_classy.ray_compat" + ("" if file.stem == "__init__" else f".{file.stem}")
        importlib.import_module(module)
        assert not re.search(r"^(import|from) ray\b", file.read_text(), re.MULTILINE), file
