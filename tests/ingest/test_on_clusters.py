"""Ingest on clusters of their own, whose nodes come and go."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize("script", ["auto", "elastic", "full_store", "nodes_change", "slow_node", "streams"])
def test_on_a_cluster_in_a_process_of_its_own(script, tmp_path):
    command = [sys.executable, "-m", "tests.ingest.cluster_scripts", script, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
