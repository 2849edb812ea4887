"""Short commands import what they need, and nothing that takes seconds."""

import subprocess
import sys

import pytest

from ray_classy.dataset.transforms import torchvision_lookup
from tests.forks import forks
from tests.helpers import make_task

HEAVY = "ray torchvision pandas pyarrow pydantic torch.distributed.fsdp torch.distributed.tensor"
COMMAND = f"""
import contextlib, os, sys
from ray_classy.cli.main import main
from ray_classy.deferred_compiler import compiler_is_imported
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    code = main(WORDS)
compiler = ["compiler"] * compiler_is_imported()
print(code, *[name for name in {HEAVY.split()} if name in sys.modules], *compiler)
"""


@pytest.fixture(scope="module")
def imported_by():
    """Returns a function that gives the exit code of a command, and the heavy modules that it imports beside torch."""
    with forks() as printed_by:

        def imported(*words):
            code, *modules = printed_by(COMMAND.replace("WORDS", repr([str(word) for word in words]))).split()
            return int(code), modules

        yield imported


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from ray_classy.trainer import LocalTrainer

    return LocalTrainer(str(tmp_path_factory.mktemp("runs")), "r").train(make_task(epochs=1)).path


@pytest.mark.parametrize("words", [["list"], ["list", "model"], ["list", "task"]])
def test_list_imports_nothing_heavy(imported_by, words):
    assert imported_by(*words) == (0, [])


@pytest.mark.parametrize("command", ["ls", "show"])
def test_looking_at_a_run_imports_nothing_heavy(imported_by, command, run):
    assert imported_by(command, run) == (0, [])


@pytest.mark.skipif(not torchvision_lookup.is_known(), reason="keys of another torchvision are listed")
@pytest.mark.parametrize("command", ["check", "train"])
def test_a_mistake_in_a_config_is_reported_before_anything_heavy_is_imported(imported_by, command):
    assert imported_by(command, "configs/digits.yaml", "optimizer.momentun=0.5") == (2, [])


@pytest.mark.parametrize("words", [[], ["--num-workers", "2"], ["--local"]])
def test_the_check_of_a_run_imports_neither_ray_nor_the_compiler(imported_by, words):
    code, modules = imported_by("check", "configs/digits.yaml", *words)
    assert code == 0 and "torchvision" in modules and not {"ray", "compiler"} & {*modules}


def test_a_command_that_does_not_exist_imports_no_torch():
    code = "import sys; from ray_classy.cli.main import main; main(['trian']); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
