import json
import os

import pytest
import torch
from pyarrow import fs

from ray_classy.errors import CheckpointError, RunFolderError
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.tune.folder import SweepFolder

LINE = {"phase_idx": 0, "epoch": 1, "phase_type": "train", "metrics": {"loss": 0.5}}
CONTENT = {"input_args": None, "classy_state_dict": {"phase_idx": 1}}


@pytest.fixture(params=["local", "arrow"])
def run(request, tmp_path):
    filesystem = fs.LocalFileSystem() if request.param == "arrow" else None
    made = RunFolder.create(str(tmp_path), "r", filesystem)
    made.describe("name: x\n", seed=3)
    yield made
    made.release()


def test_run_has_a_name_of_its_own(tmp_path):
    runs = [RunFolder.create(str(tmp_path), None) for _ in range(3)]
    assert len({run.name for run in runs}) == 3
    for run in runs:
        run.release()


def test_default_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create(None, "r")
    assert run.path == str(tmp_path / "runs" / "r")
    run.release()


@pytest.mark.parametrize("name", ["", "a/b", ".", ".."])
def test_impossible_name(tmp_path, name):
    with pytest.raises(RunFolderError, match="cannot be one"):
        RunFolder.create(str(tmp_path), name)


def test_name_that_is_taken(run):
    with pytest.raises(RunFolderError, match="--resume"):
        RunFolder.create(os.path.dirname(run.path), "r", run.storage.filesystem)


def test_storage_path_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="is a file; give a folder"):
        RunFolder.create(str(tmp_path / "file"), "r")


def test_storage_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot create"):
        RunFolder.create(str(tmp_path / "file" / "runs"), "r")


def test_what_is_run_is_written_down(run):
    run.finish("finished")
    facts = run.record.facts()
    assert (
        facts["seed"] == 3 and facts["status"] == "finished" and facts["name"] == "r" and facts["starts"][0]["command"]
    )
    assert run.storage.read("config.yaml") == b"name: x\n"


def test_every_start_is_noted(run):
    run.describe(None)
    assert len(run.record.facts()["starts"]) == 2 and run.record.facts()["seed"] == 3


def test_metrics_are_lines(run):
    for phase_idx in range(3):
        run.metrics.add({**LINE, "phase_idx": phase_idx})
    assert [line["phase_idx"] for line in run.metrics.lines()] == [0, 1, 2]
    assert len(run.storage.read("metrics.jsonl").splitlines()) == 3


def test_line_that_was_cut_off_is_passed_over(run):
    run.metrics.add(LINE)
    run.storage.append("metrics.jsonl", '{"phase_idx": 1, "metr')
    assert run.metrics.lines() == [LINE]


def test_lines_of_phases_that_are_run_again_are_dropped(run):
    for epoch in (1, 2, 3):
        for phase_type in ("train", "test"):
            run.metrics.add({**LINE, "epoch": epoch, "phase_type": phase_type})
    run.storage.append("metrics.jsonl", '{"pha')
    run.metrics.keep_until(2, tested=False)
    kept = [(line["epoch"], line["phase_type"]) for line in run.metrics.lines()]
    assert kept == [(1, "train"), (1, "test"), (2, "train")]


def test_no_metrics_yet(run):
    run.metrics.keep_until(0, tested=False)
    assert run.metrics.lines() == [] and run.checkpoints.latest() is None


def test_newest_complete_checkpoint(run):
    for name in ("epoch_0002-step_000020", "epoch_0010-step_000100", "epoch_0009-step_000090"):
        run.checkpoints.write(name, CONTENT)
    run.storage.write("epoch_0011-step_000110/checkpoint.torch.1234.half", b"half")
    run.storage.write("other/checkpoint.torch", b"")
    assert run.checkpoints.names()[-1] == "epoch_0010-step_000100" and len(run.checkpoints.names()) == 3
    assert run.checkpoints.latest() == run.storage.join("epoch_0010-step_000100")
    assert run.checkpoints.load("epoch_0010-step_000100")["classy_state_dict"] == {"phase_idx": 1}


def test_checkpoint_with_a_custom_object_is_refused(run):
    with pytest.raises(CheckpointError, match=r"classy_state_dict\.x is a Generator"):
        run.checkpoints.write("epoch_0001-step_000001", {"classy_state_dict": {"x": torch.Generator()}})
    assert run.checkpoints.names() == []


def test_resume_what_is_no_run(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(RunFolderError, match=r"no run\.json; beside it there are other"):
        RunFolder.resume(str(tmp_path / "oter"))


def test_log_is_a_file(run):
    run.log("one")
    run.log("two")
    run.flush_log()
    assert run.storage.read("log.txt") == b"one\ntwo\n"


def test_run_that_was_taken_over_writes_no_more(run):
    lease = json.loads(run.storage.read("lease.json"))
    run.storage.write("lease.json", json.dumps({**lease, "token": "other"}).encode())
    for write in (lambda: run.metrics.add({}), lambda: run.checkpoints.write("epoch_0001-step_000001", CONTENT)):
        with pytest.raises(RunFolderError, match="taken over"):
            write()


def test_error_of_an_earlier_start_is_forgotten(run):
    run.finish("failed", error="no room")
    run.describe(None)
    assert run.record.facts()["status"] == "running" and not {"error", "ended"} & run.record.facts().keys()


def test_forgetting_a_checkpoint_request_leaves_the_request_to_stop(tmp_path):
    run = RunFolder.create(str(tmp_path), "r")
    run.requests.stop()
    run.requests.checkpoint()
    run.requests.forget_checkpoint()
    assert run.requests.stop_requested() and not run.requests.checkpoint_requested()
    run.release()


def test_what_is_told_does_not_fail_with_the_log(tmp_path):
    run = RunFolder(str(tmp_path))
    run.tell("a line")
    assert (tmp_path / "log.txt").read_text().endswith("  a line\n")
    (tmp_path / "log.txt").unlink()
    (tmp_path / "log.txt").mkdir()
    run.tell("another")


def test_a_config_that_no_file_can_give_is_none(run):
    run.describe("a: {1: 2}\n")
    assert run.record.config_facts()["config"] is None and len(run.record.config_facts()["config_sha256"]) == 64


@pytest.mark.parametrize("cls", [RunFolder, SweepFolder])
def test_the_name_of_an_unused_run_is_free_again(tmp_path, cls):
    for filesystem in (None, fs.LocalFileSystem()):
        run = cls.create(str(tmp_path), "unused", filesystem)
        run.describe(None)
        run.remove_if_unused()
        assert not (tmp_path / "unused").exists()


def test_an_unused_run_that_another_process_made_is_not_removed(run):
    run.release()
    again = RunFolder.resume(run.path, run.storage.filesystem)
    again.remove_if_unused()
    again.release()
    assert again.record.facts()["seed"] == 3


@pytest.mark.parametrize("cls", [RunFolder, SweepFolder])
def test_what_was_in_a_store_before_an_unused_run_stays(tmp_path, cls):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "precious").write_text("data")
    run = cls.create(str(tmp_path), "r", fs.LocalFileSystem())
    run.describe(None)
    run.remove_if_unused()
    run.release()
    assert (tmp_path / "r" / "precious").read_text() == "data"
