import json
import os

import pytest

from ray_classy.errors import RunFolderError, RunStopped
from ray_classy.tasks import build_task
from ray_classy.trainer.run import Run
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_spec import RunSpec
from tests.helpers import make_task


def opened(folder, **options):
    task = make_task()
    return Run.of_task(task, RunSpec.of_task(task, storage_path=str(folder), **options))


def ended_by(error, folder):
    with pytest.raises(type(error)), opened(folder, name="r") as run:
        run.folder.log("a line")
        raise error
    return run.folder.record.facts()


def test_a_run_that_ends_is_finished(tmp_path):
    with opened(tmp_path, name="r") as run:
        assert run.folder.record.facts()["status"] == "running"
    assert run.folder.record.facts()["status"] == "finished" and run.result().path == str(tmp_path / "r")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunStopped("stopped")])
def test_a_run_that_is_stopped_by_the_user_is_interrupted(error, tmp_path):
    facts = ended_by(error, tmp_path)
    assert facts["status"] == "interrupted" and "error" not in facts


def test_a_run_that_an_error_ends_has_failed(tmp_path):
    facts = ended_by(ValueError("no"), tmp_path)
    assert (facts["status"], facts["error"]) == ("failed", "ValueError: no")


def test_a_trial_that_its_sweep_ends_is_stopped(tmp_path):
    def rounds():
        with Run.of_trial(make_task(), RunFolder(str(tmp_path / "t0000")), ["tune"], trial="t0000"):
            yield

    trial = rounds()
    next(trial)
    trial.close()
    facts = RunFolder(str(tmp_path / "t0000")).record.facts()
    assert (facts["status"], facts["trial"], facts["starts"][0]["command"]) == ("stopped", "t0000", ["tune"])


def test_what_was_asked_of_an_earlier_start_of_a_run_is_forgotten_and_of_a_trial_is_not(tmp_path):
    with opened(tmp_path, name="r") as run:
        pass
    run.folder.requests.stop()
    with opened(tmp_path, resume=str(tmp_path / "r")) as run:
        assert not run.folder.requests.stop_requested()
    run.folder.requests.stop()
    with Run.of_trial(make_task(), RunFolder(run.folder.path), ["tune"]) as trial:
        assert trial.folder.requests.stop_requested()


def test_a_run_in_which_nothing_happened_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError), opened(tmp_path, name="r"):
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_a_run_that_is_resumed_keeps_its_folder_whatever_happens(tmp_path):
    with opened(tmp_path, name="r"):
        pass
    with pytest.raises(ValueError), opened(tmp_path, resume=str(tmp_path / "r")):
        raise ValueError
    assert RunFolder.existing(str(tmp_path / "r")).record.facts()["status"] == "failed"


def test_a_run_is_locked_while_it_is_open(tmp_path):
    with opened(tmp_path, name="r"), pytest.raises(RunFolderError, match="process"):
        opened(tmp_path, resume=str(tmp_path / "r")).__enter__()
    with opened(tmp_path, resume=str(tmp_path / "r")):
        pass


def test_the_resolved_config_is_recorded(tmp_path):
    images = {"batchsize_per_replica": 2, "crop_size": 8, "class_ratio": 0.5, "seed": 0, "use_shuffle": False}
    config = {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {"train": {"name": "synthetic_image", "num_samples": 4, **images}},
        "model": {"name": "mlp", "input_dim": 192, "output_dim": 2, "hidden_dims": []},
        "loss": {"name": "CrossEntropyLoss"},
        "optimizer": {"name": "sgd", "lr": 0.1},
    }
    task = build_task(config)
    with Run.of_task(task, RunSpec.of_task(task, storage_path=str(tmp_path))) as run:
        recorded = run.folder.record.config_facts()["config"]
    assert recorded["optimizer"]["lr"] == 0.1 and recorded["test_phase_period"] == 1


def test_who_lost_the_run_leaves_the_record_of_its_new_owner_alone(tmp_path):
    with pytest.raises(ValueError), opened(tmp_path, name="r") as run:
        run.folder.log("a line")
        holder = json.loads(run.folder.storage.read("lease.json"))
        run.folder.storage.write("lease.json", json.dumps({**holder, "token": "another"}).encode())
        run.folder.storage.write("stop", b"")
        raise ValueError
    assert run.folder.record.facts()["status"] == "running" and run.folder.requests.stop_requested()
