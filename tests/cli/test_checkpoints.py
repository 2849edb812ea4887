import json
import os
import shutil

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.cli.main import main
from ray_classy.trainer import LocalTrainer
from tests.data.record import RECORDED
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


def truncated(run, tmp_path, name="last"):
    """A copy of the run whose newest checkpoint has lost its last byte."""
    shutil.copytree(run, tmp_path / "r", symlinks=True)
    file = tmp_path / "r" / name / "checkpoint.torch"
    file.write_bytes(file.read_bytes()[:-1])
    return str(tmp_path / "r"), file.stat().st_size


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_ls_marks_a_checkpoint_that_has_another_size_than_was_written(run, tmp_path, capsys, prefix):
    path, size = truncated(run, tmp_path)
    assert main(["ls", f"{prefix}{path}"]) == 0
    _, first, last = capsys.readouterr().out.splitlines()
    assert " KiB  50% done" in first and f"  damaged: it has {size} bytes, and {size + 1} were written" in last
    assert main(["ls", path, "--json"]) == 0
    whole, damaged = json.loads(capsys.readouterr().out)["checkpoints"]
    assert "error" not in whole and damaged["step"] == 12 and "checkpoint.torch is damaged" in damaged["error"]


def test_ls_gives_the_size_of_a_checkpoint_without_a_manifest(run, tmp_path, capsys):
    path, _ = truncated(run, tmp_path)
    os.remove(f"{path}/last/manifest.json")
    assert main(["ls", path]) == 0
    assert "KiB  (without a manifest)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["last", "epoch_0001-step_000006", "epoch_0001-step_000006/checkpoint.torch"])
def test_ls_takes_any_checkpoint_for_its_run(run, capsys, name):
    assert main(["ls", f"{run}/{name}"]) == 0
    assert "r: finished, 2 checkpoints" in capsys.readouterr().out


def test_the_trials_of_a_sweep_are_named(capsys):
    main(["show", str(RECORDED / "sweep")])
    assert "t0000, t0001, t0002" in "".join(capsys.readouterr())


def test_show_says_that_a_run_has_no_checkpoint_and_why(run, tmp_path, capsys):
    path, _ = truncated(run, tmp_path)
    for folder in (tmp_path / "r").glob("epoch_*"):
        shutil.rmtree(folder)
    assert main(["show", path]) == 1
    err = capsys.readouterr().err
    assert "has no checkpoint (`last` leads to epoch_0002-step_000012, which is gone): its status is finished" in err
    assert main(["show", f"{path}/last"]) == 1
    assert "r/last' leads to 'epoch_0002-step_000012', which is gone" in capsys.readouterr().err


def test_show_names_what_may_be_meant(run, capsys):
    for path, told in (
        (f"{run}/epoch_0003-step_000012", "; its run has epoch_0001-step_000006, epoch_0002-step_000012"),
        (os.path.dirname(run), "; the runs in it are r"),
        (f"{run}r", "; did you mean 'r'?"),
    ):
        assert main(["show", path]) == 1
        assert told in capsys.readouterr().err


def test_show_tells_parts_and_that_the_file_is_whole(run, capsys):
    assert main(["show", run]) == 0
    out = capsys.readouterr().out
    assert "epoch_0002-step_000012" in out and "base_model" in out and "the file is what was written" in out


def test_show_names_the_classes_of_several_targets(run, tmp_path, capsys):
    content = load_checkpoint(run)
    content["ray_classy"]["target_classes"] = {"train": {"colour": ["blue", "red"], "size": None}}
    torch.save(content, tmp_path / "checkpoint.torch")
    assert main(["show", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "  classes of colour: blue, red\n" in out and "size" not in out


def test_show_names_a_damaged_file(run, tmp_path, capsys):
    shutil.copytree(f"{run}/epoch_0001-step_000006", tmp_path / "c")
    file = tmp_path / "c" / "checkpoint.torch"
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["show", str(tmp_path / "c")]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_show_refuses_code_in_a_file(tmp_path, capsys):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"classy_state_dict": Malicious()}, tmp_path / "checkpoint.torch")
    assert main(["show", str(tmp_path)]) == 1
    assert "is damaged or not a checkpoint" in capsys.readouterr().err and not (tmp_path / "ran").exists()


def test_one_checkpoint_at_a_time(capsys):
    assert main(["show"]) == 2
    assert "show takes one word, a checkpoint" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["ls", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
