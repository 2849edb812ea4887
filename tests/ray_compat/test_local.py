import os
import stat
import tempfile

import pytest
import ray

from ray_classy.errors import ResourceError
from ray_classy.ray_compat.local import job_config, on_loopback, private_folders, without_uv


def test_the_folder_of_a_local_ray_is_short_private_and_removed(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    os.mkdir(tempfile.tempdir)
    with private_folders() as options:
        folder, room = os.path.dirname(options["_temp_dir"]), options["object_spilling_directory"]
        assert len(options["_temp_dir"]) <= 40 and stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert os.path.dirname(room) == tempfile.tempdir
    assert not os.path.exists(folder) and not os.path.exists(room)


def test_where_every_folder_is_too_long_the_user_is_told(monkeypatch):
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: (_ for _ in ()).throw(OSError()))
    with pytest.raises(ResourceError, match="set RAY_TMPDIR to a shorter one"), private_folders():
        pass


def test_a_local_ray_has_the_loopback_address():
    before = os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    with on_loopback():
        assert ray._private.ray_constants.ENABLE_RAY_CLUSTER is False
    assert ray._private.ray_constants.ENABLE_RAY_CLUSTER is True
    assert os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == before


def test_under_uv_ray_packs_no_folder(monkeypatch):
    hook = "ray._private.runtime_env.uv_runtime_env_hook.hook"
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", hook)
    with without_uv():
        assert ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV is False
        assert "RAY_RUNTIME_ENV_HOOK" not in os.environ
    assert os.environ["RAY_RUNTIME_ENV_HOOK"] == hook
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "1")
    with without_uv():
        assert ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV is True


def test_workers_do_not_search_the_working_directory_first():
    assert job_config()._runtime_env_has_working_dir() is True
    assert hasattr(ray.job_config.JobConfig, "_runtime_env_has_working_dir")
