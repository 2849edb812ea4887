import dataclasses

import pytest

from ray_classy.errors import RunFolderError, TaskError
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_spec import RunSpec
from tests.helpers import make_task


def test_a_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunSpec().name = "other"


def test_a_task_built_in_python_has_no_config():
    spec = RunSpec.of_task(make_task(), name="r")
    assert (spec.config, spec.name, spec.retention, dict(spec.facts)) == (None, "r", Retention(), {})


def test_only_a_task_is_trained():
    with pytest.raises(TaskError, match="trains a ClassyTask, not dict"):
        RunSpec.of_task({})


def test_the_place_is_checked_before_anything_is_made(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "file").touch()
    with pytest.raises(RunFolderError, match="give another name"):
        RunSpec(storage_path=str(tmp_path), name="r").check_place()
    with pytest.raises(RunFolderError, match="is not a run folder"):
        RunSpec(resume=str(tmp_path / "none")).check_place()
    assert RunSpec(storage_path=str(tmp_path), name="new").check_place().path == str(tmp_path / "new")
    assert not (tmp_path / "new").exists()
