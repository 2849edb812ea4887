"""What is written down of trials."""

import pytest

from ray_classy.errors import RunFolderError
from ray_classy.storage import Storage
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.tune.folder import Reports, SweepFolder, TrialRecord, existing_sweep, trial_name


@pytest.fixture
def folder(tmp_path):
    made = SweepFolder.create(str(tmp_path), "sweep")
    made.describe(None, metric="test.loss", mode="min", config={})
    yield made
    made.release()


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
