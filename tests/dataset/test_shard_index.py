import json
import os
import pathlib
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_classy.dataset import shard_index as module
from ray_classy.dataset.shard_index import Layout, cache_folder, shard_index
from ray_classy.errors import DataError
from tests.dataset.test_webdataset import samples, shard

LAYOUT = Layout(("png",), "cls", None)
JSON = Layout(("png",), "json", "y")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def path(tmp_path):
    return shard(tmp_path / "a.tar", samples("cat", "dog"))


@pytest.fixture
def scans(monkeypatch):
    """The shards that were scanned."""
    seen, scan = [], module._scan
    monkeypatch.setattr(module, "_scan", lambda shard, layout: seen.append(shard) or scan(shard, layout))
    return seen


def in_another_process(path, layout=LAYOUT):
    module._remembered.cache_clear()
    return shard_index(path, layout)


def entry():
    (name,) = os.listdir(cache_folder())
    return os.path.join(cache_folder(), name)


def test_offsets_are_those_of_the_content(path):
    index = shard_index(path, LAYOUT).to_pylist()
    with tarfile.open(path) as tar:
        members = [tar.getmember(row["member"]) for row in index]
    assert [(row["offset"], row["size"]) for row in index] == [(m.offset_data, m.size) for m in members]
    assert [row["label"] for row in index] == ["cat", "dog"]


def test_a_process_scans_a_shard_once(path, scans, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert shard_index(path, LAYOUT) is shard_index(path, LAYOUT) and len(scans) == 1


def test_processes_scan_a_shard_once(path, scans):
    first = in_another_process(path)
    assert in_another_process(path) == first and len(scans) == 1


def test_shard_that_changed_is_scanned_again_and_its_entry_replaced(path, scans, tmp_path):
    in_another_process(path)
    shard(tmp_path / "a.tar", samples("dog", "cat"))
    os.utime(path, ns=(1, 1))
    assert in_another_process(path).column("label").to_pylist() == ["dog", "cat"] and len(scans) == 2
    assert entry()


@pytest.mark.parametrize("damage", [b"", b"PAR1 oops PAR1", None])
def test_damaged_entry_is_replaced(path, scans, damage):
    first = in_another_process(path)
    content = pathlib.Path(entry()).read_bytes()
    changed = bytearray(content)
    changed[content.index(b"0000.png")] ^= 1
    pathlib.Path(entry()).write_bytes(bytes(changed) if damage is None else damage)
    assert in_another_process(path) == first and len(scans) == 2
    assert in_another_process(path) == first and len(scans) == 2


def test_other_labels_are_another_entry(path, scans):
    in_another_process(path)
    assert in_another_process(path, Layout(("png",), None, None)).column_names == ["member", "offset", "size"]
    assert len(scans) == 2


def test_the_cache_is_below_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == f"{tmp_path}/.cache/ray_classy/shards"


@pytest.mark.parametrize(("mode", "kind"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_shard(tmp_path, mode, kind):
    with pytest.raises(DataError, match=rf"a\.tar is compressed \({kind}\).*unpack it"):
        shard_index(shard(tmp_path / "a.tar", samples(0), mode), LAYOUT)


@pytest.mark.parametrize("content", [b"", b"no tar file" * 100])
def test_file_of_another_kind(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar cannot be read as a tar file"):
        shard_index(str(tmp_path / "a.tar"), LAYOUT)


def test_missing_shard(tmp_path):
    with pytest.raises(DataError, match=r"no file '.*a\.tar'"):
        shard_index(str(tmp_path / "a.tar"), LAYOUT)


def test_shard_that_was_cut(path):
    os.truncate(path, shard_index(path, LAYOUT).column("offset")[1].as_py() + 1)
    with pytest.raises(DataError, match=r"a\.tar cannot be read as a tar file.*copy it again"):
        shard_index(path, LAYOUT)


def test_damaged_header(path):
    at = shard_index(path, LAYOUT).column("offset")[1].as_py() - 512
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"?" * 200)
    with pytest.raises(DataError, match=rf"a\.tar is damaged at byte {at}"):
        shard_index(path, LAYOUT)


def test_sample_without_an_image(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar, sample '1': no image: it has \.cls, \.txt.*image_extensions are png"):
        shard_index(shard(tmp_path / "a.tar", [*samples(0), ("1.cls", b"0"), ("1.txt", b"")]), LAYOUT)


def test_sample_without_a_label(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar, sample '1': no label: it has \.png.*label_extension is 'cls'"):
        shard_index(shard(tmp_path / "a.tar", [*samples(0), ("1.png", b"")]), LAYOUT)


@pytest.mark.parametrize("content", [b" \n", b"\xff\xfe"])
def test_empty_or_unreadable_label(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.tar, sample '1': .*(no label in|holds no label)"):
        shard_index(shard(tmp_path / "a.tar", [("1.png", b""), ("1.cls", content)]), LAYOUT)


def test_member_that_is_there_twice(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar has '0000\.png' twice"):
        shard_index(shard(tmp_path / "a.tar", [*samples(0), *samples(0)]), LAYOUT)


def test_member_that_is_a_link(path):
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0000.png"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"'2\.png' is not a plain file"):
        shard_index(path, LAYOUT)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"yy": 1}, r"no field 'y': it has yy; did you mean 'yy'"),
        ([1], "no field 'y': it has none"),
        ({"y": None}, "no label in '1.json'"),
        ({"y": 0.5}, r"label 0\.5 in '1.json': expected an integer or a string"),
        ({"y": 2**63}, "label in '1.json' "),
        ({"y": "\udc80"}, r"label \\udc80 in '1.json': expected"),
        ({"y": [[1]]}, "label .* expected an integer"),
    ],
)
def test_json_without_a_label(tmp_path, value, message):
    members = [("1.png", b""), ("1.json", json.dumps(value).encode())]
    with pytest.raises(DataError, match=rf"a\.tar, sample '1': {message}"):
        shard_index(shard(tmp_path / "a.tar", members), JSON)


def test_a_label_too_deep_to_read(tmp_path):
    members = [("1.png", b""), ("1.json", b"[" * 100_000 + b"]" * 100_000)]
    with pytest.raises(DataError, match=r"a\.tar, sample '1': '1.json' holds no label: .*levels deep"):
        shard_index(shard(tmp_path / "a.tar", members), JSON)


def test_a_label_of_megabytes_is_not_read(tmp_path):
    members = [("1.png", b""), ("1.cls", bytes(2 << 20))]
    with pytest.raises(DataError, match=r"a\.tar, sample '1': '1.cls' has 2,097,152 bytes"):
        shard_index(shard(tmp_path / "a.tar", members), LAYOUT)


@pytest.mark.parametrize("offset", [-1, 10**12])
def test_an_entry_whose_members_are_outside_of_the_shard_is_replaced(path, scans, offset):
    first = in_another_process(path)
    table = pq.read_table(entry())
    wrong = pa.array([offset] * len(table), pa.int64())
    pq.write_table(table.set_column(1, "offset", wrong), entry())
    assert in_another_process(path) == first and len(scans) == 2


def test_json_labels_of_mixed_types(tmp_path):
    members = [("1.png", b""), ("1.json", b'{"y": 1}'), ("2.png", b""), ("2.json", b'{"y": "cat"}')]
    with pytest.raises(DataError, match=r"mixed types in .*a\.tar: sample '2' has 'cat', sample '1' has 1"):
        shard_index(shard(tmp_path / "a.tar", members), JSON)
