"""scripts/fuzz.py finds no fault."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = [sys.executable, str(Path(__file__).parents[1] / "scripts" / "fuzz.py")]
SURFACES = 15


@pytest.mark.full
def test_no_input_ends_in_a_traceback_or_hangs_and_no_other_data_is_accepted():
    done = subprocess.run([*FUZZ, "--inputs", "5000"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    table = re.findall(r"^([a-z ]+?) +(\d+) +(\d+) +0 +0 +0 +\d+$", done.stdout, re.MULTILINE)
    assert len(table) == SURFACES
    assert all(
        int(used) > 0 and int(refused) > 0 for _, used, refused in table
    )  # the mutations are neither all bad nor all good
