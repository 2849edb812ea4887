"""Files and folders of weights that others wrote."""

import argparse
import builtins
import json
import os
import tracemalloc

import fsspec
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from ray_classy.errors import CheckpointError, CheckpointNotFoundError, UnsafeFileError, UnsupportedFileError
from ray_classy.generic.checkpoint_util import load_checkpoint as load_checkpoint_util
from ray_classy.models.weights import read_weights

WEIGHTS = {"a.weight": torch.randn(3, 2), "a.bias": torch.ones(3, dtype=torch.bfloat16), "n": torch.tensor(7)}


def same(found, expected=WEIGHTS):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def timm_folder(path):
    path.mkdir()
    safetensors.torch.save_file(WEIGHTS, path / "model.safetensors", {"format": "pt"})
    (path / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 3}))
    return path


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "ckpt", "pth.tar"])
def test_files_are_read_from_disk_and_from_a_store(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        safetensors.torch.save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path)
    fsspec.filesystem("memory").pipe(f"/here/w.{suffix}", path.read_bytes())
    for source in (str(path), f"file://{path}", f"memory://here/w.{suffix}"):
        assert same(read_weights(source).tensors), source


def test_a_folder_of_timm_and_one_of_the_hub(tmp_path):
    weights = read_weights(str(timm_folder(tmp_path / "timm")))
    assert same(weights.tensors) and weights.source.endswith("timm/model.safetensors")
    assert weights.undone == ("a resnet18",)
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    assert same(read_weights(str(tmp_path)).tensors)


def in_parts(path, **changes):
    """A folder as Hugging Face writes large models, with an index that may be changed."""
    path.mkdir()
    places = {}
    for number, name in enumerate(WEIGHTS, 1):
        places[name] = f"model-{number:05}-of-{len(WEIGHTS):05}.safetensors"
        safetensors.torch.save_file({name: WEIGHTS[name]}, path / places[name], {"format": "pt"})
    index = {"metadata": {"total_size": 38}, "weight_map": {**places, **changes}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def test_weights_in_several_files(tmp_path):
    folder = in_parts(tmp_path / "large")
    for file in folder.iterdir():
        fsspec.filesystem("memory").pipe(f"/large/{file.name}", file.read_bytes())
    index = "model.safetensors.index.json"
    for source in (str(folder), str(folder / index), "memory://large", f"memory://large/{index}"):
        weights = read_weights(source)
        assert same(weights.tensors) and weights.source.endswith(index), source


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": "../secret.safetensors"}, "expected the name of a .safetensors file beside it"),
        ({"n": "/etc/passwd"}, "expected the name"),
        ({"n": ".hidden.safetensors"}, "expected the name"),
        ({"n": ["a"]}, "expected the name"),
        ({"n": "model-00001-of-00003.safetensors"}, "n is only in the index"),
        ({"m": "model-00009-of-00009.safetensors"}, "model-00009-of-00009.safetensors is missing"),
        ({f"{n}": f"{n}.safetensors" for n in range(600)}, "at most 500"),
    ],
)
def test_an_index_that_its_parts_do_not_fit_is_refused(tmp_path, changes, message):
    folder = in_parts(tmp_path / "large", **changes)
    with pytest.raises(CheckpointError, match=message) as error:
        read_weights(str(folder))
    assert "model.safetensors.index.json" in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000, '{"weight_map": {}}'])
def test_what_is_no_index_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        read_weights(str(tmp_path))


def test_a_damaged_part_is_named(tmp_path):
    folder = in_parts(tmp_path / "large")
    (folder / "model-00002-of-00003.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"part model-00002-of-00003\.safetensors: it is not a safetensors file"):
        read_weights(str(folder))


def test_a_folder_without_weights_names_what_is_looked_for(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match=r"no weights: expected checkpoint\.torch, model\.safetensors"):
        read_weights(str(tmp_path))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_local_file_is_not_copied(tmp_path, name):
    path = str(tmp_path / name)
    (safetensors.torch.save_file if "safe" in name else torch.save)({"a": torch.zeros(2_000_000)}, path)
    tracemalloc.start()
    tensors = read_weights(path).tensors
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tensors["a"].shape == (2_000_000,) and peak < 2_000_000


@pytest.mark.filterwarnings("ignore:.*jit.*is deprecated")
def test_a_program_is_refused_with_what_to_do(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.ones(1, 1)), tmp_path / "w.pt")
    with pytest.raises(UnsupportedFileError, match=r"w\.pt' is refused: it is a TorchScript program.*state_dict"):
        read_weights(str(tmp_path / "w.pt"))


@pytest.mark.parametrize("content", [nn.Linear(1, 1), {"model": nn.Linear(1, 1), "epoch": 3}])
def test_a_pickled_model_is_refused_with_what_to_do(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(
        UnsupportedFileError, match=r"a pickled torch\.nn\.modules\.linear\.Linear.*model\.state_dict\(\)"
    ):
        read_weights(str(tmp_path / "w.pt"))


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [os.mkdir, builtins.eval, builtins.exec])
def test_a_file_that_would_run_something_is_refused_by_name(tmp_path, function, zipped):
    evil = Runs(function, (str(tmp_path / "ran") if function is os.mkdir else "1/0",))
    torch.save({"model": WEIGHTS, "args": evil}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeFileError, match=f"asks to run {function.__module__}.{function.__name__}"):
        read_weights(str(tmp_path / "w.pt"))
    assert not (tmp_path / "ran").exists()


def header(entries):
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


DAMAGED = {
    "empty": b"",
    "a header beyond the file": (10**9).to_bytes(8, "little") + b"{}",
    "no JSON": (2).to_bytes(8, "little") + b"{[",
    "a list": (2).to_bytes(8, "little") + b"[]",
    "deep": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "beyond the end": header({"a": entry(offsets=(0, 8), shape=(2,))}) + bytes(4),
    "a gap": header({"a": entry(offsets=(4, 8))}) + bytes(8),
    "one place twice": header({"a": entry(), "b": entry()}) + bytes(4),
    "bytes behind": header({"a": entry()}) + bytes(8),
    "another size": header({"a": entry(shape=(2,))}) + bytes(4),
    "a negative shape": header({"a": entry(shape=(-1, -1))}) + bytes(4),
    "huge numbers": header({"a": entry(shape=(2**62, 4), offsets=(0, 2**64))}) + bytes(4),
    "an unknown type": header({"a": entry("F4")}) + bytes(4),
    "no entry": header({"a": 3}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_safetensors_file_is_refused(tmp_path, name):
    (tmp_path / "w.safetensors").write_bytes(DAMAGED[name])
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        read_weights(str(tmp_path / "w.safetensors"))


def test_numbers_that_are_not_aligned_are_copied(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(
        header({"a": entry("U8", (1,), (0, 1)), "b": entry("F64", (2,), (1, 17))}) + bytes(17)
    )
    assert read_weights(str(tmp_path / "w.safetensors")).tensors["b"].tolist() == [0, 0]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_later_protocols_of_pickle(tmp_path, protocol, zipped):
    beside = {"raw": b"ab", "more": bytearray(b"c"), "kinds": {1, 2}, "frozen": frozenset("ab"), "long": "x" * 300}
    content = {**beside, "args": argparse.Namespace(a=[1]), "best": np.float64(1), "again": [beside, beside]}
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save({**content, "model": WEIGHTS}, tmp_path / "w.pth", **options)
    assert same(read_weights(str(tmp_path / "w.pth")).tensors)
    if protocol == 4:
        loaded = load_checkpoint_util(str(torch_saved({"beside": beside}, tmp_path / "b.pth", **options)))
        assert loaded == {"beside": {**beside, "frozen": {"a", "b"}}}
    torch.save({"model": WEIGHTS, "args": Runs(builtins.eval, ("1/0",))}, tmp_path / "evil.pth", **options)
    with pytest.raises(UnsafeFileError, match=r"builtins\.eval"):
        read_weights(str(tmp_path / "evil.pth"))


def torch_saved(content, path, **options):
    torch.save(content, path, **options)
    return path
