import threading

import pytest
from pyarrow import fs

from ray_classy.errors import RunFolderError
from ray_classy.storage import Storage, is_url


@pytest.fixture(params=["local", "arrow", "url"])
def storage(request, tmp_path):
    made = {
        "local": lambda: Storage(str(tmp_path / "s")),
        "arrow": lambda: Storage(str(tmp_path / "s"), fs.LocalFileSystem()),
        "url": lambda: Storage(f"file://{tmp_path}/s"),
    }[request.param]()
    made.make()
    return made


def test_write_read_and_replace(storage):
    storage.write("a/b.txt", b"one")
    storage.write("a/b.txt", lambda stream: stream.write(b"two"))
    assert storage.read("a/b.txt") == b"two" and storage.exists("a/b.txt") and storage.exists("a")


def test_append(storage):
    storage.append("log", "one\n")
    storage.append("log", "two\n")
    assert storage.read("log") == b"one\ntwo\n"


def test_names(storage):
    storage.write("b", b"")
    storage.write("a/c", b"")
    assert storage.names() == ["a", "b"]


def test_folder_that_is_not_there(tmp_path):
    assert Storage(str(tmp_path / "none")).names() == [] and not Storage(str(tmp_path / "none")).exists()
    assert Storage(str(tmp_path / "none"), fs.LocalFileSystem()).names() == []


def test_join_gives_a_path_back(storage, tmp_path):
    assert storage.join("x").removeprefix("file://") == str(tmp_path / "s" / "x")


def test_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = Storage("s")
    monkeypatch.chdir("/")
    assert storage.path == str(tmp_path / "s")


def test_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot make the folder"):
        Storage(str(tmp_path / "file" / "s")).make()


def test_no_half_file_is_left(storage):
    def fail(stream):
        stream.write(b"half")
        raise ValueError

    with pytest.raises(ValueError):
        storage.write("x", fail)
    assert storage.names() == []


def test_reader_never_sees_a_part(storage):
    contents = {bytes([i]) * 200_000 for i in range(2)}
    storage.write("x", min(contents))
    over = threading.Event()

    def write():
        for _ in range(20):
            for content in contents:
                storage.write("x", content)
        over.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not over.is_set():
        assert storage.read("x") in contents
    thread.join()


def test_urls():
    assert is_url("s3://bucket/x") and not is_url("/a/b") and not is_url("C:/x")
