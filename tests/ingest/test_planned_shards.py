"""What Ray Train's own processes need to hand out the datasets of a run."""

import pickle
import subprocess
import sys

import pytest

from ray_classy.ingest.planned_shards import PlannedShards

CODE = "import pickle, sys; pickle.load(sys.stdin.buffer); print('torch' in sys.modules)"


@pytest.mark.full
def test_the_process_that_hands_out_datasets_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", CODE], input=pickle.dumps(PlannedShards()), capture_output=True)
    assert done.stdout == b"False\n", done.stderr.decode()
