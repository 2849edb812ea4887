import json
import os
import shutil
import subprocess
import sys

import pytest

from ray_classy.cli.main import main
from tests.data.record import RECORDED


@pytest.fixture
def runs(tmp_path):
    """A folder with two runs that have ended, one whose record is damaged, a sweep, and a file."""
    for name in ("finished", "interrupted", "sweep"):
        shutil.copytree(RECORDED / name, tmp_path / "runs" / name, symlinks=True)
    shutil.copytree(RECORDED / "finished", tmp_path / "runs" / "bad", symlinks=True)
    (tmp_path / "runs/bad/run.json").write_text('{"status": ')
    (tmp_path / "runs/notes.txt").write_text("mine")
    os.utime(tmp_path / "runs/sweep/lease.json", (0, 0))  # in a new clone of this repository it looks alive
    return tmp_path / "runs"


def listed(capsys, *words):
    assert main(["ls", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["runs"]


def names(capsys, *words):
    return [row["name"] for row in listed(capsys, *words)]


def test_a_folder_of_runs_is_a_table(runs, capsys):
    assert main(["ls", str(runs)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["name", "state", "config", "best", "test.accuracy.top_1"]
    (row,) = [row for row in rows if row.startswith("finished")]
    assert "run.yaml" in row and "3/3" in row and len(rows) == 4


def test_a_damaged_record_is_one_row_that_says_so(runs, capsys):
    (row,) = [row for row in listed(capsys, runs) if row["name"] == "bad"]
    assert row["state"] == "damaged" and row["note"].startswith("run.json: ") and str(runs) not in row["note"]


def test_damaged_metrics_are_one_row_that_says_so(runs, capsys):
    (runs / "finished/metrics.jsonl").write_bytes(b"[" * 10**5)
    (row,) = [row for row in listed(capsys, runs) if row["name"] == "finished"]
    assert row["state"] == "damaged" and row["note"].startswith("metrics.jsonl")


def test_a_run_has_its_best_metric_epochs_and_time(runs, capsys):
    (row,) = listed(capsys, runs, "--filter", "name=finished")
    lines = [json.loads(line) for line in (runs / "finished/metrics.jsonl").read_text().splitlines()]
    scores = [line["metrics"]["accuracy"]["top_1"] for line in lines if line["phase_type"] == "test"]
    assert (row["metric"], row["best"], row["epochs"], row["of"]) == ("test.accuracy.top_1", max(scores), 3, 3)
    assert row["seconds"] == pytest.approx(sum(line["seconds"] for line in lines))


def test_a_run_whose_process_is_gone_has_died(runs, capsys):
    assert listed(capsys, runs, "--filter", "kind=sweep")[0]["state"] == "died"  # its record says running


def test_rows_are_sorted_and_filtered(runs, capsys):
    known = names(capsys, runs, "--sort", "best", "--filter", "best>0")
    values = [row["best"] for row in listed(capsys, runs, "--sort", "best", "--filter", "best>0")]
    assert values == sorted(values, reverse=True) and len(known) == 3
    assert names(capsys, runs, "--sort", "best", "--filter", "best>0", "--reverse") == known[::-1]
    assert names(capsys, runs, "--filter", "state!=damaged", "--filter", "config=r*.yaml") == [
        "finished",
        "interrupted",
    ]
    assert "finished" in names(capsys, runs, "--filter", "optimizer.momentum=0.9", "--sort", "test.loss")


@pytest.mark.parametrize("words", [["--sort", "tme"], ["--filter", "tme=3"], ["--filter", "state"]])
def test_a_mistake_in_a_key_is_named(runs, capsys, words):
    assert main(["ls", str(runs), *words]) == 2
    err = capsys.readouterr().err
    assert "did you mean 'time'?" in err or "write KEY=VALUE" in err


def test_a_sweep_lists_its_trials(capsys):
    assert main(["ls", str(RECORDED / "sweep")]) == 0
    assert "best" not in capsys.readouterr().out  # the values are those of the last reports
    rows = listed(capsys, RECORDED / "sweep")
    assert [row["name"] for row in rows] == ["t0000", "t0001", "t0002", "t0003"]
    assert rows[0]["config"].startswith("start_value ") and rows[0]["of"] == 6 and rows[0]["best"] > 0.5


def test_several_runs_are_rows(runs, capsys):
    assert names(capsys, runs / "finished", runs / "interrupted") == ["finished", "interrupted"]


def test_without_a_path_it_is_the_folder_runs(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs.parent)
    assert len(names(capsys)) == 4
    monkeypatch.chdir(runs / "finished")
    assert main(["ls"]) == 1 and "there are no runs in 'runs'" in capsys.readouterr().err


@pytest.mark.full
def test_a_store_is_listed(s3, runs, capsys):
    assert len(names(capsys, s3.copy(runs, "runs"))) == 4


@pytest.mark.full
def test_a_folder_is_listed_without_torch(runs):
    code = (
        f"import sys; from ray_classy.cli.main import main; main(['ls', {str(runs)!r}]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
