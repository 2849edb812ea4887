import contextlib
import fcntl
import logging
import os
import pickle
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_classy.dataset import local_copy
from ray_classy.dataset.local_copy import LocalCopy
from ray_classy.dataset.parquet_rows import ParquetRows
from ray_classy.dataset.source_files import SourceFiles
from ray_classy.errors import DataError

COLUMNS = ["image", "label"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_CLASSY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ray_classy.dataset.parquet_rows.IN_MEMORY_BYTES", 0)
    return tmp_path / "cache"


@pytest.fixture
def files(tmp_path):
    paths = []
    for number in range(3):
        labels = list(range(number * 50, number * 50 + 50))
        table = pa.table({"image": [bytes([label]) * 9 for label in labels], "label": labels, "more": ["x"] * 50})
        paths.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(table, paths[-1], row_group_size=7)
    return paths


def copies(cache):
    return sorted(path.name for path in cache.rglob("*.arrow"))


def test_rows_of_large_files_are_those_of_the_files(files):
    rows = ParquetRows(files, COLUMNS)
    assert rows.are_large
    assert [row["label"] for row in rows.take(range(150))] == list(range(150))
    assert rows.take([149, 0, 57])[2] == {"image": bytes([57]) * 9, "label": 57}


@pytest.mark.parametrize(
    "images",
    [
        pa.array([np.arange(12).reshape(2, 2, 3).tolist()] * 5, pa.list_(pa.list_(pa.list_(pa.uint8())))),
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.uint8(), (2, 2, 3)), pa.array([list(range(12))] * 5, pa.list_(pa.uint8(), 12))
        ),
        pa.array([{"bytes": b"abc", "path": None}] * 5),
    ],
    ids=["lists", "tensors", "structs"],
)
def test_images_of_every_type_are_copied(tmp_path, images, monkeypatch):
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    copied = ParquetRows([str(tmp_path / "a.parquet")], ["image"]).take([3])[0]["image"]
    monkeypatch.setattr("ray_classy.dataset.parquet_rows.IN_MEMORY_BYTES", 1 << 20)
    read = ParquetRows([str(tmp_path / "a.parquet")], ["image"]).take([3])[0]["image"]
    np.testing.assert_equal(copied, read)


def test_only_files_that_are_asked_for_are_copied(files, cache):
    ParquetRows(files, COLUMNS).take([60])
    assert copies(cache) == ["000001.arrow"]


def test_a_copy_is_made_once_for_all(files, cache):
    ParquetRows(files, COLUMNS).take([0])
    made = [path.stat().st_mtime_ns for path in cache.rglob("*.arrow")]
    rows = pickle.loads(pickle.dumps(ParquetRows(files, COLUMNS)))
    assert rows.take([1])[0]["label"] == 1
    assert [path.stat().st_mtime_ns for path in cache.rglob("*.arrow")] == made


def test_other_columns_have_a_copy_of_their_own(files, cache):
    ParquetRows(files, COLUMNS).take([0])
    assert ParquetRows(files, ["more"]).take([0]) == [{"more": "x"}]
    assert len(copies(cache)) == 2


def test_many_threads_get_the_same_rows(files):
    rows, got = ParquetRows(files, COLUMNS), {}

    def take(number):
        got[number] = [row["label"] for row in rows.take(range(number, 150, 8))]

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: list(range(number, 150, 8)) for number in range(8)}


def test_many_processes_get_the_same_rows(files, cache):
    code = (
        "import sys; from ray_classy.dataset import parquet_rows; parquet_rows.IN_MEMORY_BYTES = 0\n"
        "print([row['label'] for row in parquet_rows.ParquetRows(sys.argv[1:], ['image', 'label']).take(range(150))])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, *files], stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].decode().strip() for process in running] == [str(list(range(150)))] * 2
    assert copies(cache) == ["000000.arrow", "000001.arrow", "000002.arrow"]


def test_a_file_that_has_changed_is_not_copied(files, cache):
    rows = ParquetRows(files, COLUMNS)
    pq.write_table(pa.table({"image": [b"a"], "label": [1]}), files[1])
    with pytest.raises(DataError, match=r"1.parquet' was changed since the run began"):
        rows.take([60])
    assert copies(cache) == []


def test_a_changed_file_gets_a_new_copy(files):
    ParquetRows(files, COLUMNS).take([0])
    pq.write_table(pa.table({"image": [b"new"], "label": [7]}), files[0])
    assert ParquetRows(files, COLUMNS).take([0]) == [{"image": b"new", "label": 7}]


def test_what_a_killed_process_left_is_made_again(files, cache):
    rows = ParquetRows(files, COLUMNS)
    folder = cache / LocalCopy(files, COLUMNS, rows.sources, rows.sizes)._key()
    cache.mkdir(0o700)
    folder.mkdir(0o700)
    (folder / "000000.arrow.part").write_bytes(b"half")
    (folder / "000000.arrow.lock").touch()
    assert rows.take([3])[0]["label"] == 3
    assert not list(cache.rglob("*.part"))


def test_a_process_that_copies_is_waited_for(files, cache):
    rows = ParquetRows(files, COLUMNS)
    rows.take([60])
    folder = next(cache.iterdir())
    with open(folder / "000000.arrow.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = []
        thread = threading.Thread(target=lambda: taken.append(rows.take([0])))
        thread.start()
        time.sleep(0.3)
        assert not taken
        fcntl.flock(lock, fcntl.LOCK_UN)
        thread.join(10)
    assert taken[0][0]["label"] == 0


def test_a_process_that_is_stuck_is_not_waited_for_in_vain(files, cache, monkeypatch):
    monkeypatch.setattr(local_copy, "_STUCK_SECONDS", 0.2)
    rows = ParquetRows(files, COLUMNS)
    rows.take([60])
    with open(next(cache.iterdir()) / "000000.arrow.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"waited for another process of this machine to copy .*0.parquet"):
            rows.take([0])


def test_a_disk_without_room_is_said_before_anything_is_copied(files, cache, monkeypatch):
    monkeypatch.setattr(local_copy, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(DataError, match=r"GiB free, and a copy of the Parquet files takes .*RAY_CLASSY_CACHE"):
        ParquetRows(files, COLUMNS).take([0])
    assert copies(cache) == []


def test_a_disk_that_fills_up_is_said(tmp_path, cache):
    blob = [os.urandom(1 << 20) for _ in range(4)]
    pq.write_table(pa.table({"image": blob}), tmp_path / "a.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(DataError, match=r"takes no copy of .*a.parquet: .*File too large.*RAY_CLASSY_CACHE"):
            ParquetRows([str(tmp_path / "a.parquet")], ["image"]).take([0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert copies(cache) == [] and not list(cache.rglob("*.part"))


def test_a_cache_that_is_not_a_folder_is_an_error(files, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_CLASSY_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"file takes no copy of .*0.parquet: .*set RAY_CLASSY_CACHE"):
        ParquetRows(files, COLUMNS).take([0])


def test_copies_that_were_not_used_for_a_day_are_removed(files, cache):
    old, used = ParquetRows(files[:1], COLUMNS), ParquetRows(files[1:2], COLUMNS)
    old.take([0])
    used.take([0])
    for mark in cache.rglob("in_use"):
        os.utime(mark, (1, 1))
    del old
    assert ParquetRows(files[2:], COLUMNS).take([0])[0]["label"] == 100
    assert len(copies(cache)) == 2
    assert used.take([1])[0]["label"] == 51


def test_one_line_says_where_the_copy_is(files, cache, caplog):
    with caplog.at_level(logging.INFO, "ray_classy"):
        ParquetRows(files, COLUMNS).take(range(150))
    assert len(caplog.records) == 1 and f"in {cache}" in caplog.text


def test_a_file_whose_changes_do_not_show_is_copied_for_this_process_alone(files, monkeypatch):
    sources = SourceFiles(files)
    sources.stamps = {file: stamp._replace(changed_ns=None) for file, stamp in sources.stamps.items()}
    here = LocalCopy(files, COLUMNS, sources, [50] * 3)._key()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert LocalCopy(files, COLUMNS, sources, [50] * 3)._key() != here


def test_a_folder_of_another_user_is_refused(files, tmp_path, monkeypatch):
    cache = tmp_path / f"ray_classy-{os.geteuid()}"
    cache.mkdir(0o700)
    monkeypatch.delenv("RAY_CLASSY_CACHE")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ParquetRows(files, COLUMNS).take([0])
    if os.geteuid() == 0:
        os.chown(cache, 12345, -1)
        with pytest.raises(DataError, match=r"belongs to user 12345, .*set RAY_CLASSY_CACHE"):
            ParquetRows(files, COLUMNS).take([60])


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_may_write_to_is_refused(files, tmp_path, monkeypatch, mode):
    cache = tmp_path / f"ray_classy-{os.geteuid()}"
    cache.mkdir()
    cache.chmod(mode)
    monkeypatch.delenv("RAY_CLASSY_CACHE")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DataError, match=r"may be written to by other users; .*set RAY_CLASSY_CACHE"):
        ParquetRows(files, COLUMNS).take([0])
    assert not list(cache.iterdir())


@pytest.mark.parametrize("closed", [True, False])
def test_copies_of_an_earlier_version_are_closed_to_others(files, cache, closed):
    rows = ParquetRows(files, COLUMNS)
    folder = cache / LocalCopy(files, COLUMNS, rows.sources, rows.sizes)._key()
    folder.mkdir(parents=True)
    folder.chmod(0o775)
    cache.chmod(0o700 if closed else 0o755)
    with contextlib.nullcontext() if closed else pytest.raises(DataError, match="may be written to by other users"):
        assert rows.take([0])[0]["label"] == 0
    assert folder.stat().st_mode & 0o777 == (0o700 if closed else 0o775)


def test_a_link_in_place_of_the_folder_is_refused(files, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir(0o700)
    (tmp_path / f"ray_classy-{os.geteuid()}").symlink_to(tmp_path / "mine")
    monkeypatch.delenv("RAY_CLASSY_CACHE")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DataError, match="is not a folder but a link"):
        ParquetRows(files, COLUMNS).take([0])


def test_a_shared_folder_gets_a_folder_of_this_user(files, cache):
    cache.mkdir()
    cache.chmod(0o1777)
    ParquetRows(files, COLUMNS).take([0])
    (folder,) = cache.iterdir()
    assert folder.name == f"ray_classy-{os.geteuid()}" and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["000000.arrow.lock", "000000.arrow.part", "000000.arrow", "in_use"])
def test_links_among_the_copies_are_not_followed(files, cache, tmp_path, name):
    rows, secret = ParquetRows(files, COLUMNS), tmp_path / "secret"
    secret.write_text("mine")
    cache.mkdir(0o700)
    folder = cache / LocalCopy(files, COLUMNS, rows.sources, rows.sizes)._key()
    folder.mkdir(0o700)
    (folder / name).symlink_to(secret)
    with contextlib.suppress(DataError):
        assert rows.take([0])[0]["label"] == 0
    assert secret.read_text() == "mine"


@pytest.mark.parametrize("damage", ["empty", "cut", "junk", "rows", "columns", "offsets"])
def test_a_copy_that_is_not_sound_is_made_again(files, cache, damage):
    ParquetRows(files, COLUMNS).take([0])
    (copy,) = cache.rglob("*.arrow")
    table = pa.ipc.open_file(copy.read_bytes()).read_all()
    if damage in ("rows", "columns"):
        other = table.slice(0, 10) if damage == "rows" else table.rename_columns(["image", "other"])
        with pa.ipc.new_file(str(copy), other.schema) as writer:
            writer.write_table(other)
    elif damage == "offsets":
        content = bytearray(copy.read_bytes())
        at = content.index(np.arange(0, 9 * 5, 9, np.int32).tobytes())
        content[at + 4 : at + 8] = b"\xff\xff\xff\x7f"
        copy.write_bytes(content)
    else:
        content = copy.read_bytes()
        copy.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "junk": b"x" * len(content)}[damage])
    assert [row["label"] for row in ParquetRows(files, COLUMNS).take(range(50))] == list(range(50))


def test_only_copies_are_removed_to_make_room(files, cache):
    (cache / "results").mkdir(parents=True)
    cache.chmod(0o700)
    (cache / "results/in_use").touch()
    os.utime(cache / "results/in_use", (1, 1))
    ParquetRows(files, COLUMNS).take([0])
    assert (cache / "results/in_use").exists()
