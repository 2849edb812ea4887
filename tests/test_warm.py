"""The processes of Ray that tests start."""

import os
import pathlib

import pytest


@pytest.mark.ray
def test_a_worker_is_forked_where_it_was_started_with_what_it_was_given(ray_cluster):
    @ray_cluster.remote(num_cpus=0, runtime_env={"env_vars": {"GIVEN": "yes"}})
    def seen():
        parent = pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_text()
        return parent, os.environ["GIVEN"], os.environ["PYTHONPATH"]

    parent, given, path = ray_cluster.get(seen.remote())
    assert ("warm_template" in parent) == ("WARM_WORKERS" in os.environ)
    assert given == "yes" and path == os.environ.get("PYTHONPATH", "")
