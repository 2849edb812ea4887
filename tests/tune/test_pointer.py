"""What trials give each other: pointers to checkpoints, and the states that they adopt."""

import json
import os

import pytest

from ray_classy.checkpoint import CHECKPOINT_FILE
from ray_classy.errors import RecordError, RunFolderError
from ray_classy.storage import Storage
from ray_classy.tune.pointer import SOURCE, Pointer, adopt


def test_a_pointer_is_the_same_in_parameters_and_in_a_record():
    pointer = Pointer("/sweep/t0001", "epoch_0001-step_000010")
    assert Pointer.in_parameters({SOURCE: pointer.plain()}) == pointer
    assert Pointer.in_parameters({SOURCE: None}) is Pointer.in_parameters({}) is None


def test_a_pointer_is_read_back_as_it_was_written(tmp_path):
    pointer = Pointer(f"{tmp_path}/sweep/t0001", "epoch_0001-step_000010")
    pointer.write(str(tmp_path))
    assert Pointer.read(str(tmp_path), Storage(f"{tmp_path}/sweep")) == pointer


def source_of(folder):
    source = folder.trial_run("t0001")
    source.checkpoints.write("epoch_0001-step_000010", {"input_args": None, "classy_state_dict": {}}, {})
    return source


def test_a_trial_adopts_no_file_behind_a_link(folder, tmp_path):
    source, run = source_of(folder), folder.trial_run("t0000")
    (tmp_path / "private").write_text("private")
    os.symlink(tmp_path / "private", source.storage.join("metrics.jsonl"))
    with pytest.raises(RunFolderError, match="is a link"):
        adopt(run, source, "epoch_0001-step_000010")
    assert not run.storage.exists()


def test_a_trial_that_cannot_adopt_a_checkpoint_keeps_its_own(folder):
    source, run = source_of(folder), folder.trial_run("t0000")
    run.checkpoints.write("epoch_0002-step_000020", {"input_args": None, "classy_state_dict": {}}, {})
    with pytest.raises(RunFolderError, match="has no checkpoint epoch_0002-step_000020, which t0000 adopts"):
        adopt(run, source, "epoch_0002-step_000020")
    assert run.storage.exists(f"epoch_0002-step_000020/{CHECKPOINT_FILE}")


@pytest.mark.parametrize(
    ("run", "checkpoint", "why"),
    [
        ("{tmp}/sweep/../mine", "epoch_0001-step_000010", "is not a trial of the sweep"),
        ("{tmp}/mine", "epoch_0001-step_000010", "is not a trial of the sweep"),
        ("{tmp}/t0001", "epoch_0001-step_000010", "is not a trial of the sweep"),
        ("{tmp}/sweep/t0001", "../../mine", "is not the name of a checkpoint"),
        (3, None, "run is damaged: it must be text, not 3"),
    ],
)
def test_a_pointer_that_leads_out_of_the_sweep_is_refused(tmp_path, run, checkpoint, why):
    pointer = {"run": run.format(tmp=tmp_path) if isinstance(run, str) else run, "checkpoint": checkpoint}
    (tmp_path / "pointer.json").write_text(json.dumps(pointer))
    with pytest.raises(RecordError, match=why):
        Pointer.read(str(tmp_path), Storage(f"{tmp_path}/sweep"))
