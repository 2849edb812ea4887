"""Files that claim more than they hold, and that `torch.save` writes."""

import io
import pickle
import struct
import time
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from ray_classy.checkpoint import load_checkpoint, save_checkpoint
from ray_classy.checkpoint.torch_file import read_torch_file
from ray_classy.cli.main import main
from ray_classy.errors import CheckpointError


def written(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


SHARED = torch.arange(12.0)
VALUES = {
    "tensors": {"a": torch.arange(6).reshape(2, 3).t(), "empty": torch.empty(0, 3), "scalar": torch.tensor(2.5)},
    "views": [SHARED, SHARED[3:7], SHARED.reshape(3, 4)[:, 1]],
    "types": [torch.ones(3).to(dtype) for dtype in (torch.bfloat16, torch.bool, torch.complex64, torch.float8_e4m3fn)],
    "unsigned": torch.tensor([1, 65535], dtype=torch.uint16),
    "plain": {"n": None, "t": True, "i": [-1, 255, 256, 65536, 2**31, 2**40, -(2**63), 2**127], "f": 0.1, "s": "läufe"},
    "surrogate": ["\udce9"],
    "bytes": [b"", b"\x00\xff", bytearray(b"ab"), 1 + 2j],
    "containers": [(), (1,), (1, 2), (1, 2, 3, 4), OrderedDict(a=1), Counter("aab"), {1, 2}, {(1, "a"): 2}],
    "torch": [torch.Size([1, 2]), torch.device("cpu"), torch.float32],
    "state dict": nn.BatchNorm1d(3).state_dict(),
}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, dict):
        return type(one) is type(other) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", VALUES)
def test_what_torch_writes_is_read(name, zipped):
    data = written(VALUES[name], _use_new_zipfile_serialization=zipped)
    assert same(VALUES[name], read_torch_file(data))


def test_tensors_share_their_storage_as_they_did():
    first, second, _ = read_torch_file(written(VALUES["views"]))
    second.zero_()
    assert first[3:7].sum() == 0


def test_parameters_are_read_as_tensors():
    parameter = nn.Parameter(torch.ones(2))
    parameter.mine = 3
    assert torch.equal(read_torch_file(written([parameter]))[0], torch.ones(2))


def test_a_compressed_file_is_read(tmp_path):
    assert torch.equal(read_torch_file(compressed({"a": torch.arange(9)}))["a"], torch.arange(9))


def compressed(content):
    """The file as a program for archives would pack it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(written(content))) as source, zipfile.ZipFile(packed, "w", 8) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


STORAGE = "ctorch\nFloatStorage\n"
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def archive(program, records=(), name="a"):
    """An archive with this pickle."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        target.writestr(f"{name}/data.pkl", program)
        for key, content in dict(records).items():
            target.writestr(f"{name}/data/{key}", content)
    return packed.getvalue()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def tensor(count, size, stride, offset=0, storage=STORAGE):
    """The part of a pickle that makes a tensor."""
    persistent = b"(" + text("storage") + storage.encode() + text("0") + text("cpu") + number(count) + b"tQ"
    shapes = b"".join(b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (size, stride))
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + number(offset) + shapes + hooks + b"tR"


def call(name, *arguments):
    return b"c" + name.replace(".", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def nest(depth, opening=b"]", closing=b"a"):
    return opening * depth + b"N" + closing * depth


def doubling(depth):
    """A list of two lists, each of the same two lists, and so on: 2**depth values."""
    return b"]q\x00" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(depth))


ONE = {"0": b"\x00\x00\x80?"}
BOMBS = {
    "expanded": archive(b"\x80\x02" + tensor(1, [10**9], [0]) + b".", ONE),
    "many views": archive(b"\x80\x02](" + tensor(1000, [1000, 25_000], [1, 0]) * 2 + b"e.", {"0": b"\0" * 4000}),
    "longer than its record": archive(b"\x80\x02" + tensor(2, [2], [1]) + b".", ONE),
    "longer than its storage": archive(b"\x80\x02" + tensor(1, [2], [1]) + b".", ONE),
    "behind its storage": archive(b"\x80\x02" + tensor(1, [1], [1], offset=1) + b".", ONE),
    "before its storage": archive(b"\x80\x02" + tensor(1, [1], [1], offset=-1) + b".", ONE),
    "negative": archive(b"\x80\x02" + tensor(1, [-1], [1]) + b".", ONE),
    "beyond 64 bits": archive(b"\x80\x02" + tensor(1, [2**62, 2**62], [0, 0]) + b".", ONE),
    "no record": archive(b"\x80\x02" + tensor(1, [1], [1]) + b"."),
    "legacy": LEGACY + b"\x80\x02(" + tensor(10**9, [10**9], [1]).replace(b"tQ", b"NtQ") + b"t.\x80\x02].",
    "storage": archive(b"\x80\x02ctorch.storage\nUntypedStorage\n" + number(10**11) + b"\x85R."),
    "bytearray": archive(b"\x80\x02" + call("builtins.bytearray", number(10**11)) + b"."),
    "tensor class": archive(b"\x80\x02" + call("torch.Tensor", number(10**10)) + b"."),
    "nested lists": archive(b"\x80\x02" + nest(10**5) + b"."),
    "nested tuples": archive(b"\x80\x02" + b")" + b"\x85" * 10**5 + b"."),
    "a nested key": archive(b"\x80\x02}" + b")" + b"\x85" * 10**5 + b"Ns."),
    "itself": archive(b"\x80\x02]q\x00h\x00a."),
    "doubling": archive(b"\x80\x02" + doubling(60) + b"."),
    "a long integer": archive(b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b"."),
    "an integer of gigabytes": archive(b"\x80\x02\x8b\xff\xff\xff\x7f."),
    "many containers": archive(b"\x80\x02](" + b"]" * 1_000_001 + b"e."),
    "sparse": written(torch.ones(3).to_sparse()),
    "quantized": archive(b"\x80\x02" + tensor(1, [1], [1], storage="ctorch\nQInt8Storage\n") + b".", {"0": b"a"}),
    "meta": written(torch.ones(3, device="meta")),
    "conjugate": written(torch.ones(3, dtype=torch.complex64).conj()),
    "numpy": written({"a": np.float64(3)}),
    "no stop": archive(b"\x80\x02]"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_claims_too_much_is_refused_at_once(name):
    began = time.perf_counter()
    with pytest.raises(CheckpointError) as error:
        read_torch_file(BOMBS[name])
    assert time.perf_counter() - began < 10 and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_record_that_unpacks_to_more_than_the_file_allows_is_refused():
    bomb = compressed({"a": torch.zeros(20_000_000)})
    assert len(bomb) < 200_000
    with pytest.raises(CheckpointError, match="unpacks to much more"):
        read_torch_file(bomb)


def test_a_record_that_unpacks_to_more_than_it_claims_is_refused():
    bomb = bytearray(compressed({"a": torch.zeros(1000)}))
    with zipfile.ZipFile(io.BytesIO(bomb)) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith("data/0")]
    at = bomb.rindex(name.encode()) - 46
    assert bomb[at : at + 4] == b"PK\x01\x02"
    bomb[at + 24 : at + 28] = struct.pack("<I", 400)
    with pytest.raises(CheckpointError, match=r"size than it claims|archive is damaged|bytes, and not"):
        read_torch_file(bytes(bomb))


def test_a_flipped_bit_of_the_numbers_is_noticed_without_a_manifest():
    data = bytearray(written({"a": torch.full((4,), 7.0)}))
    data[data.index(struct.pack("<4f", *[7.0] * 4)) + 5] ^= 1
    with pytest.raises(CheckpointError, match="archive is damaged: Bad CRC"):
        read_torch_file(bytes(data))


def test_a_program_is_named():
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_torch_file(archive(b"\x80\x02N.", {"constants.pkl": b""}))


def test_showing_such_a_file_is_refused_without_a_traceback(tmp_path, capsys):
    program = b"\x80\x02}(" + text("classy_state_dict") + b"}" + text("a") + tensor(1, [10**9], [0]) + b"su."
    (tmp_path / "checkpoint.torch").write_bytes(archive(program, ONE))
    assert main(["show", str(tmp_path)]) == 1
    assert "its tensors claim more memory than the file has data for" in capsys.readouterr().err


CYCLE = []
CYCLE.append(CYCLE)
DEEP = []
for _ in range(3000):
    DEEP = [DEEP]


@pytest.mark.parametrize("value", [CYCLE, DEEP, 2**3000, torch.ones(3).to_sparse(), {("a", ("b",)): 1}])
def test_what_could_not_be_read_is_not_written(value, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be kept in a checkpoint"):
        save_checkpoint(str(tmp_path), {"classy_state_dict": {"mine": value}})
    assert list(tmp_path.iterdir()) == []


def test_a_state_with_views_of_one_tensor_is_kept(tmp_path):
    weight = torch.ones(1000)
    path = save_checkpoint(str(tmp_path), {"classy_state_dict": {"a": weight, "b": weight.expand(5, 1000)}})
    assert load_checkpoint(path)["classy_state_dict"]["b"].shape == (5, 1000)
