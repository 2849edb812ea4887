import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

from ray_classy import storage
from ray_classy.checkpoint import load_checkpoint, save_checkpoint
from ray_classy.checkpoint.manifest import write_manifest
from ray_classy.errors import CheckpointError, DamagedCheckpointError, StorageError
from ray_classy.models.weights import read_weights
from ray_classy.storage import Storage
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import equal_weights, make_task, weights
from tests.trainer.ray_parts import digits_config


def saved(folder, value=1.0, **facts):
    content = {"classy_state_dict": {"weight": torch.full((1000,), value)}}
    save_checkpoint("c", content, storage=Storage(str(folder)), facts={"step": 7, **facts})
    return folder / "c" / "checkpoint.torch"


def test_the_manifest_tells_facts_and_files(tmp_path):
    file = saved(tmp_path)
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert manifest["step"] == 7 and manifest["files"]["checkpoint.torch"]["bytes"] == file.stat().st_size
    assert load_checkpoint(str(tmp_path / "c"))["classy_state_dict"]["weight"].sum() == 1000


@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_a_file_that_is_not_what_was_written_is_named(tmp_path, damage):
    file = saved(tmp_path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data if damage == "bit" else data[:-10])
    with pytest.raises(CheckpointError, match=r"c/checkpoint\.torch' is damaged.*(bytes are not|has .* bytes)"):
        load_checkpoint(str(file))


def test_a_checkpoint_without_a_manifest_is_read(tmp_path):
    file = saved(tmp_path)
    (tmp_path / "c" / "manifest.json").unlink()
    assert "classy_state_dict" in load_checkpoint(str(file))


def change(tmp_path, **entries):
    """Changes entries of the manifest; those that are None are removed."""
    file = tmp_path / "c" / "manifest.json"
    values = {**json.loads(file.read_text()), **entries}
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    "text", ["", '{"files": {', "[]", "\xff", '{"format": 1}', '{"format": 1, "files": {}}', "[" * 9999]
)
def test_a_damaged_manifest_is_damage(tmp_path, text):
    file = saved(tmp_path)
    (tmp_path / "c" / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DamagedCheckpointError, match="manifest"):
        load_checkpoint(str(file))


FILE = {"bytes": 1, "sha256": ""}
WRONG = {
    "format": [None, "1", 0, True],
    "files": [None, [], {"checkpoint.torch": 3}, {"checkpoint.torch": {"bytes": "1", "sha256": ""}}, {"other": FILE}],
    "in_phase": [3, {"rows": "3"}],
    "metrics": [[], "none"],
    "classes": [{}, "abc"],
    "where": ["half"],
}


@pytest.mark.parametrize(("entry", "value"), [(entry, value) for entry, values in WRONG.items() for value in values])
def test_a_wrong_entry_of_a_manifest_is_damage(tmp_path, entry, value):
    file = saved(tmp_path)
    change(tmp_path, **{entry: value})
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(str(file))


def test_a_manifest_of_a_later_format_is_no_damage(tmp_path):
    file = saved(tmp_path)
    change(tmp_path, format=2)
    with pytest.raises(CheckpointError, match="has format 2, and this release reads format 1") as error:
        load_checkpoint(str(file))
    assert not isinstance(error.value, DamagedCheckpointError)


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path):
    save_checkpoint(str(tmp_path), {"classy_state_dict": {}, "ray_classy": {"format": 2}})
    with pytest.raises(CheckpointError, match="has format 2, and this release reads format 1"):
        load_checkpoint(str(tmp_path))


def test_a_run_with_a_damaged_manifest_goes_on_from_the_checkpoint_before(tmp_path, caplog):
    run = RunFolder(LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2)).path)
    last = run.checkpoints.names()[-1]
    (tmp_path / "r" / last / "manifest.json").write_text("{")
    LocalTrainer(resume=str(tmp_path / "r")).train(make_task(epochs=2))
    assert "its manifest cannot be read: line 1, column 2 is not JSON" in caplog.text
    assert "); resuming from the one before" in caplog.text and "restore the file" not in caplog.text


def test_the_manifest_of_another_program_beside_a_file_of_weights_is_passed_over(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pth")
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    assert read_weights(str(tmp_path / "weights.pth")).tensors.keys() == {"a"}


def test_a_checkpoint_that_is_replaced_has_a_new_manifest(tmp_path):
    saved(tmp_path, 1.0)
    file = saved(tmp_path, 2.0)
    assert load_checkpoint(str(file))["classy_state_dict"]["weight"][0] == 2


def test_a_run_with_a_damaged_last_checkpoint_goes_on_from_the_one_before(tmp_path, caplog):
    calm, again = make_task(epochs=3, momentum=0.9), make_task(epochs=3, momentum=0.9)
    run = RunFolder(LocalTrainer(str(tmp_path), "r").train(calm).path)
    last = run.checkpoints.names()[-1]
    file = tmp_path / "r" / last / "checkpoint.torch"
    file.write_bytes(file.read_bytes()[:-100])
    result = LocalTrainer(resume=str(tmp_path / "r")).train(again)
    assert last in caplog.text and "resuming from the one before" in caplog.text
    assert equal_weights(weights(calm), weights(again)) and len(result.metrics_history) == 6


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path):
    LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2))
    for file in (tmp_path / "r").glob("*/checkpoint.torch"):
        file.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="the run has no intact checkpoint") as caught:
        LocalTrainer(resume=str(tmp_path / "r")).train(make_task(epochs=3))
    message = str(caught.value)
    assert message.endswith("; neither are the older ones (1). Restore one from a copy, or start a new run")
    assert message.count("is damaged") == 1 and "use an earlier one" not in message


class FailingReads(LocalFileSystem):
    """A store that refuses the next reads of checkpoints."""

    cachable = False
    failures = 0

    def open(self, path, mode="rb", **options):
        if "r" in mode and path.endswith("checkpoint.torch") and self.failures:
            self.failures -= 1
            raise ConnectionResetError("connection reset by the store")
        return super().open(path, mode, **options)


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """A run with two checkpoints in a store, and the store."""
    monkeypatch.setattr(storage, "_SECONDS_TO_NEXT_TRY", 0.01)
    LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2))
    store = FailingReads()
    return RunFolder(str(tmp_path / "r"), fs.PyFileSystem(fs.FSSpecHandler(store))), store


def test_a_read_that_fails_once_is_tried_again(failing):
    run, store = failing
    store.failures = 1
    assert run.checkpoints.load_latest()[0] == run.checkpoints.names()[-1]


def test_a_read_that_fails_twice_is_no_reason_to_resume_from_an_older_checkpoint(failing):
    run, store = failing
    store.failures = 2
    with pytest.raises(StorageError, match=r"cannot read the checkpoint .*connection reset by the store"):
        run.checkpoints.load_latest()


def test_an_intact_checkpoint_that_cannot_be_loaded_is_no_reason_to_resume_from_an_older_one(failing):
    run, _ = failing
    folder = run.checkpoints.names()[-1]
    data = b"of a later version of torch"
    run.storage.write(f"{folder}/checkpoint.torch", data)
    write_manifest(run.storage, folder, {}, {"checkpoint.torch": data})
    with pytest.raises(CheckpointError, match="is intact, but cannot be loaded here"):
        run.checkpoints.load_latest()


def test_the_manifest_of_a_run_tells_where_it_was(tmp_path):
    task = make_task(epochs=1)
    LocalTrainer(str(tmp_path), "r").train(task)
    (file,) = (tmp_path / "r").glob("epoch_*/manifest.json")
    manifest = json.loads(file.read_text())
    assert (manifest["epoch"], manifest["step"], manifest["samples"], manifest["in_phase"]) == (1, 6, 24, None)
    assert manifest["metrics"]["test"]["accuracy"]["top_1"] == task.meters[0].value["top_1"]


def test_the_manifest_of_a_run_has_its_config(tmp_path):
    result = LocalTrainer(str(tmp_path), "r").train(build_task(digits_config(num_epochs=1)))
    manifest = json.loads(Path(result.checkpoint, "manifest.json").read_text())
    file = tmp_path / "r" / "config.yaml"
    assert manifest["config"] == yaml.safe_load(file.read_text())
    assert manifest["config_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
