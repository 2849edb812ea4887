"""What a trial changes in its process is restored for the next one."""

import subprocess
import sys

import pytest
import torch

from ray_classy.tune.fresh_process import fresh_process

UNCHANGED = """
from ray_classy.deferred_compiler import compiler_is_imported, defer_compiler
defer_compiler()
from ray_classy.tune.fresh_process import fresh_process
with fresh_process():
    pass
print(compiler_is_imported())
"""


@pytest.mark.parametrize("before", [0, 1, 2])
def test_deterministic_algorithms_are_asked_for_as_before(before):
    torch.set_deterministic_debug_mode(before)
    try:
        with fresh_process():
            torch.use_deterministic_algorithms(before == 0)
        assert torch.get_deterministic_debug_mode() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_trial_that_changes_nothing_imports_no_compiler():
    done = subprocess.run([sys.executable, "-c", UNCHANGED], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
