"""Files whose pickle would run code, wherever a checkpoint is read."""

import os
import pickle

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.cli.main import main
from ray_classy.errors import CheckpointError
from ray_classy.models.weights import read_weights
from ray_classy.tasks import FineTuningTask
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task


class Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


def write(kind, path, evil):
    weights = {"model.0.weight": torch.zeros(8, 6)}
    if kind == "zip":
        torch.save({"classy_state_dict": {"base_model": weights}, "input_args": evil}, path)
    elif kind == "weights":
        torch.save({"state_dict": {**weights, "model.0.bias": evil}}, path)
    elif kind == "legacy":
        torch.save({"classy_state_dict": evil}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps({"classy_state_dict": evil}, protocol=2 if kind == "pickle 2" else 4))


@pytest.fixture(params=["zip", "weights", "legacy", "pickle 2", "pickle 4"])
def folder(request, tmp_path):
    """A folder with such a `checkpoint.torch`, and a look whether it ran."""
    (tmp_path / "checkpoint").mkdir()
    write(request.param, tmp_path / "checkpoint" / "checkpoint.torch", Runs(tmp_path / "ran"))
    yield tmp_path / "checkpoint"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("load", [load_checkpoint, read_weights])
def test_loading_runs_nothing(folder, load):
    for path in (folder, folder / "checkpoint.torch"):
        with pytest.raises(
            CheckpointError, match=r"something else than tensors|is damaged|asks to run (posix|nt)\.system"
        ):
            load(str(path))


def test_a_task_that_starts_from_it_runs_nothing(folder):
    with pytest.raises(CheckpointError):
        make_task().set_checkpoint(str(folder)).prepare()


def test_fine_tuning_from_it_runs_nothing(folder, tmp_path):
    task = make_task(cls=FineTuningTask).set_pretrained_checkpoint(str(folder / "checkpoint.torch"))
    with pytest.raises(CheckpointError):
        LocalTrainer(str(tmp_path / "runs")).train(task)


def test_showing_it_runs_nothing(folder, capsys):
    assert main(["show", str(folder)]) == 1
    assert "is damaged or not a checkpoint" in capsys.readouterr().err


def test_resuming_a_run_with_it_runs_nothing(tmp_path):
    result = LocalTrainer(str(tmp_path), "r").train(make_task())
    os.remove(os.path.join(result.checkpoint, "manifest.json"))
    torch.save({"classy_state_dict": Runs(tmp_path / "ran")}, os.path.join(result.checkpoint, "checkpoint.torch"))
    with pytest.raises(CheckpointError, match="the run has no intact checkpoint"):
        LocalTrainer(resume=result.path).train(make_task(epochs=2))
    assert not (tmp_path / "ran").exists()


def test_the_files_do_run_where_they_are_trusted(tmp_path):
    for kind in ("zip", "weights", "legacy", "pickle 2", "pickle 4"):
        ran, file = tmp_path / f"{kind} ran", tmp_path / kind
        write(kind, file, Runs(ran))
        if kind.startswith("pickle"):
            pickle.loads(file.read_bytes())
        else:
            torch.load(file, weights_only=False)
        assert ran.exists(), kind
