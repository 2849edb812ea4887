import json

import pytest

from ray_classy.cli.main import main
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return LocalTrainer(str(tmp_path_factory.mktemp("runs")), "r").train(make_task(epochs=2, momentum=0.9)).path


def test_ls_lists_the_checkpoints_with_their_metrics(run, capsys):
    assert main(["ls", run]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.endswith("r: finished, 2 checkpoints")
    assert "epoch_0001-step_000006" in lines[0] and "50% done" in lines[0] and "test.accuracy.top_1" in lines[0]


def test_ls_for_programs(run, capsys):
    assert main(["ls", run, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [entry["step"] for entry in data["checkpoints"]] == [6, 12]


def test_show_tells_parts_and_that_the_file_is_whole(run, capsys):
    assert main(["show", run]) == 0
    out = capsys.readouterr().out
    assert "epoch_0002-step_000012" in out and "base_model" in out and "the file is what was written" in out


def test_show_names_a_damaged_file(run, tmp_path, capsys):
    import shutil

    shutil.copytree(f"{run}/epoch_0001-step_000006", tmp_path / "c")
    file = tmp_path / "c" / "checkpoint.torch"
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["show", str(tmp_path / "c")]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_show_refuses_code_in_a_file(tmp_path, capsys):
    import os

    import torch

    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"classy_state_dict": Malicious()}, tmp_path / "checkpoint.torch")
    assert main(["show", str(tmp_path)]) == 1
    assert "is damaged or not a checkpoint" in capsys.readouterr().err and not (tmp_path / "ran").exists()


def test_one_run_at_a_time(capsys):
    assert main(["ls"]) == 2
    assert "ls takes one word, a run's folder" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["ls", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
