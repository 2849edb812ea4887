import argparse
import collections
import datetime
import hashlib
import os
import pathlib

import numpy as np
import pytest
import torch

from ray_classy.checkpoint import load_checkpoint, save_checkpoint
from ray_classy.errors import CheckpointError, CheckpointNotFoundError
from ray_classy.models.weights import read_weights
from ray_classy.storage import Storage
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task

CONTENT = {"input_args": None, "classy_state_dict": {"weight": torch.ones(2), "epoch": 3}}


def test_what_is_written_is_read(tmp_path):
    path = save_checkpoint(str(tmp_path / "new" / "folder"), CONTENT)
    assert path.endswith("checkpoint.torch") and load_checkpoint(path)["classy_state_dict"]["epoch"] == 3


def test_file_opens_without_trust(tmp_path):
    path = save_checkpoint(str(tmp_path), CONTENT)
    assert torch.load(path, weights_only=True)["classy_state_dict"]["weight"].tolist() == [1, 1]


def test_folder_stands_for_its_checkpoint(tmp_path):
    save_checkpoint(str(tmp_path), CONTENT)
    assert load_checkpoint(str(tmp_path))["classy_state_dict"]["epoch"] == 3
    assert load_checkpoint(f"{tmp_path}/")["classy_state_dict"]["epoch"] == 3


def test_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(".", CONTENT)
    assert load_checkpoint("checkpoint.torch")["classy_state_dict"]["epoch"] == 3


def test_in_a_storage(tmp_path):
    storage = Storage(str(tmp_path))
    assert save_checkpoint("step_1", CONTENT, storage=storage) == str(tmp_path / "step_1" / "checkpoint.torch")
    assert load_checkpoint("step_1/checkpoint.torch", storage)["classy_state_dict"]["epoch"] == 3


def test_on_a_file_system_of_arrow(tmp_path):
    from pyarrow import fs

    storage = Storage(str(tmp_path), fs.LocalFileSystem())
    save_checkpoint("step_1", CONTENT, storage=storage)
    assert load_checkpoint("step_1/checkpoint.torch", storage)["classy_state_dict"]["epoch"] == 3


def test_by_url(tmp_path):
    save_checkpoint(f"file://{tmp_path}/a", CONTENT)
    assert load_checkpoint(f"file://{tmp_path}/a")["classy_state_dict"]["epoch"] == 3
    assert load_checkpoint(f"file://{tmp_path}/a/checkpoint.torch")["classy_state_dict"]["epoch"] == 3


class Custom:
    pass


def test_custom_object_is_refused_when_it_is_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"classy_state_dict\.mine is a Custom.*tensors"):
        save_checkpoint(str(tmp_path), {"classy_state_dict": {"mine": Custom()}})
    assert os.listdir(tmp_path) == []


def test_object_that_does_not_pickle_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"classy_state_dict\.mine is a function"):
        save_checkpoint(str(tmp_path), {"classy_state_dict": {"mine": lambda: 0}})
    assert os.listdir(tmp_path) == []


def test_failed_write_leaves_the_old_file(tmp_path):
    path = save_checkpoint(str(tmp_path), CONTENT)

    def fail(stream):
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Storage(str(tmp_path)).write("checkpoint.torch", fail)
    assert load_checkpoint(path)["classy_state_dict"]["epoch"] == 3 and os.listdir(tmp_path) == ["checkpoint.torch"]


@pytest.mark.parametrize("name", ["nothing", "nothing/checkpoint.torch", ""])
def test_missing(tmp_path, name):
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint at"):
        load_checkpoint(str(tmp_path / name))


def test_missing_is_what_the_predecessor_raised():
    assert issubclass(CheckpointNotFoundError, FileNotFoundError) and issubclass(CheckpointError, AssertionError)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_off(tmp_path, keep):
    save_checkpoint(str(tmp_path), CONTENT)
    data = (tmp_path / "checkpoint.torch").read_bytes()
    (tmp_path / "cut.torch").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match=r"cut\.torch.* is damaged"):
        load_checkpoint(str(tmp_path / "cut.torch"))


@pytest.mark.parametrize(
    "data", [b"hello", b"PK\x03\x04hello", b"\x80\x02}q\x00.", b"\x80\x04junk", bytes(range(256)) * 9]
)
def test_what_is_no_checkpoint(tmp_path, data):
    (tmp_path / "x.torch").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"x\.torch"):
        load_checkpoint(str(tmp_path / "x.torch"))


def test_model_file_of_somebody_else(tmp_path):
    torch.save({"layer1.weight": torch.ones(1)}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"classy_state_dict.*layer1\.weight"):
        load_checkpoint(str(tmp_path / "model.pth"))


def test_pickle_that_runs_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"classy_state_dict": Evil()}, tmp_path / "evil.torch")
    with pytest.raises(CheckpointError, match="evil"):
        load_checkpoint(str(tmp_path / "evil.torch"))
    assert not (tmp_path / "ran").exists()


def test_a_run_stands_for_its_newest_checkpoint(tmp_path):
    result = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2))
    newest = load_checkpoint(result.checkpoint)["classy_state_dict"]
    assert load_checkpoint(result.path)["classy_state_dict"]["num_updates"] == newest["num_updates"]
    assert read_weights(result.path).source == f"{result.checkpoint}/checkpoint.torch"


def test_a_run_without_pointers_stands_for_its_newest_checkpoint_too(tmp_path):
    result = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2))
    os.remove(tmp_path / "r" / "last")
    assert load_checkpoint(f"file://{result.path}")["classy_state_dict"]["train_phase_idx"] == 1


def test_a_folder_with_a_file_that_only_looks_like_a_pointer_has_no_checkpoint(tmp_path):
    (tmp_path / "last").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint at"):
        load_checkpoint(str(tmp_path))


WEIGHTS = {"a.weight": torch.ones(2), "a.bias": torch.ones(1)}


class Beside(dict):
    """An object of a class that is not known."""


class Seen(argparse.Namespace):
    def __setstate__(self, state):
        raise AssertionError("code ran")


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_weights_are_passed_over(tmp_path, zipped):
    beside = {
        "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a")),
        "best": np.float64(0.5),
        "began": datetime.datetime.now(datetime.UTC),
        "shape": torch.Size([3]),
        "kind": [torch.bfloat16, torch.device("cpu"), np.dtype("f4"), np.ones((2, 2), "f4")],
        "order": collections.OrderedDict(a=1),
        "history": collections.defaultdict(list, a=[np.arange(3)]),
        "hyper_parameters": Beside(a=1),
        "seen": Seen(a=1),
        Seen: [Seen(a=2)],
    }
    torch.save({**beside, "model": WEIGHTS}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    loaded = read_weights(str(tmp_path / "w.pth")).tensors
    assert loaded.keys() == WEIGHTS.keys() and torch.equal(loaded["a.weight"], torch.ones(2))
    with pytest.raises(CheckpointError, match="something else than tensors"):
        load_checkpoint(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [{"model": Seen()}, {"model": {**WEIGHTS, "b": Seen()}}])
def test_weights_of_an_unknown_class_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"something else than tensors.*Seen"):
        read_weights(str(tmp_path / "w.pth"))


def test_conjugate_and_expanded_tensors_are_written_in_full(tmp_path):
    state = {"a": torch.tensor([1 + 2j]).conj(), "b": (torch.zeros(1).expand(20_000_000),)}
    path = save_checkpoint(str(tmp_path), {"classy_state_dict": state})
    loaded = load_checkpoint(path)["classy_state_dict"]
    assert loaded["a"].tolist() == [1 - 2j] and loaded["b"][0].shape == (20_000_000,)


@pytest.mark.skipif(not hasattr(torch.serialization, "set_crc32_options"), reason="this torch always writes checksums")
def test_checkpoint_has_checksums_also_where_they_are_switched_off(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = save_checkpoint(str(tmp_path), {"classy_state_dict": {"a": torch.ones(3)}})
        assert torch.serialization.get_crc32_options() is False
        torch.save(WEIGHTS, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_checkpoint(path)["classy_state_dict"]["a"].tolist() == [1, 1, 1]
    with pytest.raises(CheckpointError, match="without checksums"):
        read_weights(str(tmp_path / "w.pth"))


def test_checkpoint_is_hashed_once(tmp_path, monkeypatch):
    path = save_checkpoint(str(tmp_path), {"classy_state_dict": {}}, facts={})
    hashed = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda data: hashed.append(data) or sha256(data))
    load_checkpoint(path)
    assert len(hashed) == 1
