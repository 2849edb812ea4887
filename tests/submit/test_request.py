import pytest

from ray_classy.submit.request import request_stop
from ray_classy.trainer.run_folder import RunFolder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that the job j1 trains."""
    monkeypatch.setenv("RAY_CLASSY_JOB", "j1")
    folder = RunFolder.create(str(tmp_path), "r")
    folder.describe(None)
    yield folder
    folder.release()


def test_the_run_of_a_job_is_asked_to_stop(run):
    assert request_stop(run.path, "j1") and run.requests.stop_requested()


def test_a_run_of_another_job_and_one_that_has_ended_are_not_asked(run, tmp_path):
    assert not request_stop(run.path, "j2") and not request_stop(str(tmp_path / "none"), "j1")
    run.finish("finished")
    assert not request_stop(run.path, "j1") and not run.requests.stop_requested()
