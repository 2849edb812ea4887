import os
import shutil

import pytest
import torch

from ray_classy.checkpoint.manifest import write_manifest
from ray_classy.errors import CheckpointError, StorageError
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import make_task

CONTENT = {"input_args": None, "classy_state_dict": {"phase_idx": 1}}
NAMES = [f"epoch_000{epoch}-step_0000{epoch}0" for epoch in (1, 2, 3)]


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


def write(run, losses=(0.3, 0.1, 0.2)):
    for name, loss in zip(NAMES, losses, strict=True):
        run.checkpoints.write(name, CONTENT, {"metrics": {"test": {"loss": loss}}})


def test_a_run_that_was_copied_with_links_followed_is_trained_on(tmp_path):
    """As by `cp -rL`, `scp -r` or `aws s3 sync`: `last` and `best` are folders in the copy."""
    path = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2)).path
    copy = shutil.copytree(path, tmp_path / "copy")
    assert os.path.isdir(copy / "last") and not os.path.islink(copy / "last")
    result = LocalTrainer(resume=str(copy)).train(make_task(epochs=5))
    assert len(result.metrics_history) == 10 and os.readlink(copy / "last") == os.path.basename(result.checkpoint)
    assert result.best_checkpoint is not None and os.listdir(copy / "last.copied")
    again = LocalTrainer(resume=str(copy / "last")).train(make_task(epochs=6))
    assert len(again.metrics_history) == 12 and "last.copied-2" not in os.listdir(copy)


@pytest.mark.parametrize("content", [b"../../x", b"/etc", b"\xff\xfe", b"", b"epoch_0009-step_000090", b"x" * 10**5])
def test_an_alias_of_no_checkpoint_is_made_anew(run, content):
    write(run)
    for alias in ("last", "best"):
        run.storage.write(alias, content)
    assert run.checkpoints.best() is None
    run.checkpoints.keep(Retention())
    assert run.storage.pointed("last") == NAMES[2] and run.checkpoints.best() == run.storage.join(NAMES[1])


def test_an_alias_that_leads_out_of_the_run_is_replaced_and_what_it_leads_to_stays(tmp_path):
    run = RunFolder.create(str(tmp_path), "r")
    write(run)
    (tmp_path / "mine").mkdir()
    for alias in ("last", "best"):
        os.symlink("../mine", tmp_path / "r" / alias)
    run.checkpoints.keep(Retention(num_to_keep=1))
    assert os.listdir(tmp_path / "mine") == [] and os.readlink(tmp_path / "r" / "last") == NAMES[2]
    run.release()


def test_an_alias_that_cannot_be_written_ends_no_run(run, monkeypatch, caplog):
    write(run)

    def fail(*_):
        raise StorageError("no room")

    monkeypatch.setattr(type(run.storage), "point", fail)
    run.checkpoints.keep(Retention(num_to_keep=1))
    run.checkpoints.keep(Retention(num_to_keep=1))
    assert caplog.text.count("cannot be pointed to") == 2 and run.checkpoints.names() == NAMES[2:]


def test_a_checkpoint_behind_a_link_is_read_but_neither_written_nor_removed(tmp_path):
    run = RunFolder.create(str(tmp_path), "r")
    write(run)
    for name in NAMES[:2]:
        os.rename(tmp_path / "r" / name, tmp_path / name)
        os.symlink(tmp_path / name, tmp_path / "r" / name)
    before = (tmp_path / NAMES[0] / "checkpoint.torch").read_bytes()
    assert run.checkpoints.load(NAMES[0])["classy_state_dict"] == {"phase_idx": 1}
    run.checkpoints.write(NAMES[0], {**CONTENT, "input_args": 1}, {})
    run.checkpoints.keep(Retention(num_to_keep=1))
    assert (tmp_path / NAMES[0] / "checkpoint.torch").read_bytes() == before
    assert os.listdir(tmp_path / NAMES[1]) and run.checkpoints.names() == NAMES[2:]
    run.release()


def test_a_manifest_of_anything_else_does_not_end_a_run(run):
    write(run)
    for name, content in zip(NAMES, (b'{"metrics": "x"}', b"[" * 10**5, b'{"metrics": {"test": []}}'), strict=True):
        run.storage.write(f"{name}/manifest.json", content)
    RunFolder(run.path, run.storage.filesystem).checkpoints.keep(Retention())
    assert run.storage.pointed("last") == NAMES[2]


def test_manifests_are_read_once(run):
    write(run)
    run.checkpoints.keep(Retention())
    for name in NAMES:
        run.storage.write(f"{name}/manifest.json", b"{}")
    run.checkpoints.keep(Retention())
    assert run.checkpoints.best() == run.storage.join(NAMES[1])


def test_a_manifest_that_is_not_there_yet_is_looked_for_again(run):
    run.checkpoints.write(NAMES[0], CONTENT)
    run.checkpoints.keep(Retention())
    assert run.checkpoints.best() is None
    write_manifest(run.storage, NAMES[0], {"metrics": {"test": {"loss": 0.1}}}, {"checkpoint.torch": b""})
    run.checkpoints.keep(Retention())
    assert run.checkpoints.best() == run.storage.join(NAMES[0])


def test_the_copy_of_a_run_in_an_object_store_gets_its_aliases(s3):
    """As by `aws s3 sync`, which uploads what links lead to."""
    run = RunFolder(s3.url("runs/r"))
    for name in ("last", "best"):
        run.checkpoints.write(name, CONTENT, {})
    run.checkpoints.write(NAMES[0], CONTENT, {"metrics": {"test": {"loss": 0.1}}})
    run.checkpoints.keep(Retention())
    assert run.storage.pointed("last") == NAMES[0] and run.checkpoints.best() == run.storage.join(NAMES[0])
