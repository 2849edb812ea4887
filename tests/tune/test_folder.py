"""What is written down of trials."""

import dataclasses
import json
import os

import pytest

from ray_classy.errors import RecordError, RunFolderError, StorageError
from ray_classy.storage import Storage
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.tune.folder import Clone, Reports, SweepFolder, TrialRecord, existing_sweep, trial_name


def line(epoch, kind, **metrics):
    return {
        "epoch": epoch,
        "phase_type": kind,
        "phase_idx": 2 * epoch - (kind == "train") - 1,
        "where": 0.5,
        "metrics": metrics,
    }


def report(epoch):
    return {"epoch": epoch, "phase_idx": 2 * epoch - 1, "where": 0.5, "train": {"loss": 1.0}}


def test_trials_are_read_back_as_they_were_written(folder):
    records = [TrialRecord(trial_name(index), index, {"lr": 0.1 * index}, reason="why") for index in (0, 12, 3)]
    for record in records:
        folder.write_trial(record)
    assert folder.trials() == sorted(records, key=lambda record: record.index)


def test_the_folder_of_a_sweep_is_told_from_that_of_a_run(folder, tmp_path):
    assert existing_sweep(folder.path).path == folder.path
    run = RunFolder.create(str(tmp_path), "run")
    run.describe(None)
    run.release()
    with pytest.raises(RunFolderError, match="is a run, not a sweep"):
        existing_sweep(run.path)


def test_a_sweep_with_trials_is_not_removed(folder):
    folder.write_trial(TrialRecord("t0000", 0, {}))
    folder.remove_if_unused()
    assert folder.trials()


def test_a_sweep_of_which_no_trial_began_is_removed(folder):
    folder.remove_if_unused()
    assert not folder.storage.exists()


def test_a_sweep_that_another_process_made_is_not_removed(folder):
    folder.release()
    again = SweepFolder.resume(folder.path)
    again.remove_if_unused()
    again.release()
    assert again.record.facts()["kind"] == "sweep"


@pytest.fixture
def reports(tmp_path):
    return Reports(Storage(str(tmp_path)))


def test_reports_are_read_back(reports):
    reports.add(report(1))
    reports.add(report(2))
    assert reports.read() == [report(1), report(2)]


def test_a_report_that_was_cut_off_is_passed_over(reports, tmp_path):
    reports.add(report(1))
    with open(tmp_path / "reports.jsonl", "a") as file:
        file.write('{"epoch": 2, "tr')
    assert reports.read() == [report(1)]


def test_reports_of_what_is_trained_again_are_dropped(reports):
    for epoch in (1, 2, 3):
        reports.add(report(epoch))
    assert reports.begin([line(1, "train"), line(2, "train")], 2, "c") == [report(1), report(2)]
    assert reports.read() == [report(1), report(2)]


def test_a_report_that_a_kill_prevented_is_made_from_the_metrics(reports):
    reports.add(report(1))
    made = reports.begin([line(1, "train"), line(2, "train", loss=0.5), line(2, "test", loss=0.7)], 2, "epoch_0002")
    assert made[-1] == {
        "train": {"loss": 0.5},
        "test": {"loss": 0.7},
        "phase_idx": 3,
        "epoch": 2,
        "where": 0.5,
        "checkpoint": "epoch_0002",
    }


# -- damaged and hostile files ----------------------------------------------------------------------------------------

TRIAL = dataclasses.asdict(TrialRecord("t0000", 0, {"lr": 0.1}))
CLONE = dataclasses.asdict(Clone("t0001", "epoch_0001-step_000010", 1, {"lr": 0.2}, done=False))


def test_a_record_with_clones_is_read_back(folder):
    record = TrialRecord("t0000", 0, {"lr": 0.1}, clones=[Clone(**CLONE)])
    folder.write_trial(record)
    assert folder.trials() == [record] and folder.trials()[0].pending_clone == Clone(**CLONE)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"[" * 10**5, "levels deep"),
        (b"\xff", "not UTF-8"),
        (b"[]", "a list in place of an object"),
        (b"{}", "it has no 'name'"),
        ({"name": "/x/y"}, "it is the record of trial 0, '/x/y'"),
        ({"name": "t0001"}, "it is the record of trial 0, 't0001'"),
        ({"index": 1}, "it is the record of trial 1, 't0000'"),
        ({"index": 10**400}, "digits"),
        ({"state": "\x1b[2J"}, r"state is '.*x1b\[2J', and must be one of running, finished, stopped, failed"),
        ({"checkpoint": "/any/dir"}, "'/any/dir' is not the name of a checkpoint"),
        ({"checkpoint": "../t0001"}, "is not the name of a checkpoint"),
        ({"checkpoint": ""}, "is not the name of a checkpoint"),
        ({"checkpoint": 3}, "checkpoint is damaged: it must be text or null, not 3"),
        ({"clones": [{**CLONE, "checkpoint": "/any/dir"}]}, "'/any/dir' is not the name of a checkpoint"),
        ({"clones": [{**CLONE, "of": "../../x"}]}, "is not the name of a trial"),
        ({"clones": [3]}, r"clones\[0\] is damaged"),
        ({"clones": {}}, "clones is damaged"),
        ({"params": []}, "params is damaged"),
        ({"metrics": None}, "metrics is damaged"),
        ({"epoch": "1"}, "epoch is damaged"),
        ({"seconds": None}, "seconds is damaged"),
    ],
)
def test_a_damaged_record_of_a_trial_is_one_error(folder, content, why):
    damaged = content if isinstance(content, bytes) else json.dumps({**TRIAL, **content}).encode()
    folder.storage.write("t0000/trial.json", damaged)
    with pytest.raises(RecordError, match=rf"t0000/trial\.json.*{why}"):
        folder.trials()


@pytest.mark.parametrize("params", [{}, {"lr": 1, "x": 2}, {"lr": 3}, {"lr": [1]}, {"lr": None}])
def test_a_record_of_another_search_space_is_refused(folder, params):
    with pytest.raises(RecordError, match=r"trial\.json is damaged: (it has parameters for|the parameter lr has no)"):
        folder.check_params(TrialRecord("t0000", 0, params), {"lr": {1: 1, 2: 2}})


def test_a_pipe_in_place_of_a_record_is_an_error(folder):
    os.mkdir(folder.storage.join("t0000"))
    os.mkfifo(folder.storage.join("t0000/trial.json"))
    with pytest.raises(OSError, match="not a regular file"):
        folder.trials()


def test_nothing_is_written_to_a_trial_that_is_a_link(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    os.symlink(tmp_path / "mine", folder.storage.join("t0000"))
    with pytest.raises(StorageError, match="a folder that is one"):
        folder.write_trial(TrialRecord("t0000", 0, {}))
    assert os.listdir(tmp_path / "mine") == []


@pytest.mark.parametrize("missing", ["metric", "mode", "config"])
def test_a_sweep_without_a_part_of_its_record_is_one_error(folder, missing):
    facts = {name: value for name, value in folder.record.facts().items() if name != missing}
    folder.storage.write("run.json", json.dumps(facts).encode())
    with pytest.raises(RecordError, match=rf"run\.json is damaged: it has no '{missing}'"):
        existing_sweep(folder.path)


def test_a_report_that_cannot_be_read_is_kept_aside_and_no_other_is_lost(reports, tmp_path):
    for epoch in (1, 2, 3):
        reports.add(report(epoch))
    content = (tmp_path / "reports.jsonl").read_bytes()
    (tmp_path / "reports.jsonl").write_bytes(b"\xff" + content + b'{"epoch": 4, "train": []}\n')
    kept = reports.begin([line(2, "train"), line(3, "train")], 3, "c")
    assert kept == [report(2), report(3)] == reports.read()
    assert (tmp_path / "reports.jsonl.damaged").read_bytes().startswith(b'\xff{"epoch": 1')


@pytest.mark.parametrize("checkpoint", ["/any/dir", "../t0001", "", 3])
def test_a_report_with_another_path_than_that_of_a_checkpoint_is_passed_over(reports, checkpoint):
    reports.add(report(1))
    reports.add({**report(2), "checkpoint": checkpoint})
    assert reports.read() == [report(1)]
