"""Commands on runs and sweeps in which a file is damaged or planted: one clear error, or the file is passed over."""

import json
import os
import shutil

import pytest

from ray_classy.cli.main import main
from tests.data.record import RECORDED

DEEP, DIGITS, NOT_UTF8 = b"[" * 10**5, b'{"status": ' + b"9" * 5000 + b"}", b'{"status": "\xff"}'


@pytest.fixture
def recorded(tmp_path):
    """Copies a recorded run, replaces one of its files, and returns the copy's path."""

    def copy(name, file, content):
        path = shutil.copytree(RECORDED / name, tmp_path / name, symlinks=True)
        if content == "pipe":
            (path / file).unlink()
            os.mkfifo(path / file)
        elif content == "loop":
            (path / file).unlink()
            (path / file).symlink_to(os.path.basename(file))
        elif isinstance(content, dict):
            (path / file).write_text(json.dumps({**json.loads((path / file).read_text()), **content}))
        else:
            (path / file).unlink()
            (path / file).write_bytes(content)
        return str(path)

    return copy


def result_of(capsys, *words):
    capsys.readouterr()
    code = main(words)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err and "\x1b" not in out + err
    return code, out, err


@pytest.mark.parametrize("content", [b"", b"[]", b"\0\0", DEEP, DIGITS, NOT_UTF8, {"status": []}, "pipe"])
@pytest.mark.parametrize("command", [["ls"], ["train", "--local", "--resume"]])
def test_a_damaged_record_of_a_run_is_one_error(recorded, capsys, content, command):
    code, _, err = result_of(capsys, *command, recorded("finished", "run.json", content))
    assert code == 1 and "finished/run.json" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"../../x", b"\xff\xfe", b"x" * 10**6, "pipe", "loop"])
@pytest.mark.parametrize("name", ["last", "best"])
def test_a_damaged_alias_is_passed_over(recorded, capsys, name, content):
    path = recorded("finished", name, content)
    for command in (["ls"], ["show"], ["train", "--local", "--resume"]):
        assert result_of(capsys, *command, path)[0] == 0


@pytest.mark.parametrize("content", [b"\xff\n", DEEP, DIGITS, b"[]\n", b"null\n", b'{"metrics": 3}\n'])
def test_a_damaged_line_of_the_metrics_is_passed_over(recorded, capsys, content):
    lines = (RECORDED / "finished" / "metrics.jsonl").read_bytes()
    path = recorded("finished", "metrics.jsonl", content + b"\n" + lines)
    code, out, _ = result_of(capsys, "train", "--local", "--resume", path)
    assert code == 0 and "already finished" in out and "test.accuracy.top_1          0.8900" in out


def test_text_from_files_is_escaped_in_answers(recorded, capsys):
    path = recorded("finished", "run.json", {"status": "ok\x1b[2J\n12:00:00  finished"})
    code, out, _ = result_of(capsys, "ls", path)
    assert code == 0 and r"ok\x1b[2J\n12:00:00  finished, 2 checkpoints" in out
    manifest = "epoch_0003-step_001080/manifest.json"
    shutil.rmtree(path)
    path = recorded("finished", manifest, {"metrics": {"a\n\x1b]0;x\x07": 1.0}})
    for command in ("ls", "show"):
        code, out, _ = result_of(capsys, command, path)
        assert code == 0 and r"a\n\x1b]0;x\x07" in out


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("t0000/trial.json", {"name": "/x/y"}, "it is the record of trial 0, '/x/y'"),
        ("t0000/trial.json", {"params": {"lr": 1}}, "it has parameters for lr"),
        ("t0000/trial.json", DEEP, "levels deep"),
        ("t0000/trial.json", "pipe", "not a regular file"),
        ("run.json", {"metric": None}, "it has no 'metric'"),
        ("run.json", NOT_UTF8, "is not UTF-8"),
    ],
)
def test_a_damaged_record_of_a_sweep_is_one_error_before_anything_is_started(recorded, capsys, file, content, why):
    code, _, err = result_of(capsys, "tune", "--resume", recorded("sweep", file, content))
    assert code == 1 and f"sweep/{file}" in err and why in err


def test_no_folder_is_removed_that_the_record_of_a_trial_names(recorded, capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("data")
    clone = {"of": "t0001", "checkpoint": str(tmp_path / "mine"), "epoch": 1, "params": {}, "done": False}
    for content in ({"checkpoint": str(tmp_path / "mine")}, {"clones": [clone]}):
        path = recorded("sweep", "t0002/trial.json", content)
        code, _, err = result_of(capsys, "tune", "--resume", path)
        assert code == 1 and "is not the name of a checkpoint" in err
        shutil.rmtree(path)
    assert (tmp_path / "mine" / "precious").read_text() == "data"


def test_a_folder_of_runs_with_links_that_lead_nowhere(tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("loop", "dangling", "loop/last", "."):
        code, _, err = result_of(capsys, "ls", str(tmp_path / name))
        assert code == 1 and "is not a run folder" in err
