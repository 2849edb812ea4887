import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs

from ray_classy.errors import RunFolderError, StorageError
from ray_classy.storage import Storage, is_url


class SftpLike(LocalFileSystem):
    """Renames as fsspec's SFTP does: two arguments, and the target is replaced."""

    cachable = False

    def mv(self, old, new):
        os.replace(old, new)


class SmbLike(LocalFileSystem):
    """Renames as fsspec's SMB does: never over a file that is there."""

    cachable = False

    def mv(self, path1, path2, recursive=None, maxdepth=None):
        os.link(path1, path2)
        os.remove(path1)


class WebHdfsLike(SmbLike):
    """Renames as fsspec's WebHDFS does: if the target is there, nothing happens, without an error."""

    def mv(self, path1, path2, **kwargs):
        if not os.path.exists(path2):
            super().mv(path1, path2)


def fsspec_storage(filesystem, path):
    return Storage(path, fs.PyFileSystem(fs.FSSpecHandler(filesystem)))


@pytest.fixture(params=["local", "arrow", "url", "subtree", "fsspec", "dirfs", "sftp", "smb", "webhdfs"])
def storage(request, tmp_path):
    path = str(tmp_path / "s")
    made = {
        "subtree": lambda: Storage("s", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())),
        "fsspec": lambda: fsspec_storage(LocalFileSystem(), path),
        "dirfs": lambda: fsspec_storage(DirFileSystem(str(tmp_path), LocalFileSystem()), "s"),
        "sftp": lambda: fsspec_storage(SftpLike(), path),
        "smb": lambda: fsspec_storage(SmbLike(), path),
        "webhdfs": lambda: fsspec_storage(WebHdfsLike(), path),
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
    assert os.path.join(tmp_path, storage.join("x").removeprefix("file://")) == str(tmp_path / "s" / "x")


def test_a_file_url_is_a_local_path(tmp_path):
    storage = Storage(f"file://{tmp_path}/a%20b")
    assert storage.local and storage.path == str(tmp_path / "a b")


def test_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = Storage("s")
    monkeypatch.chdir("/")
    assert storage.path == str(tmp_path / "s")


def test_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot create the folder"):
        Storage(str(tmp_path / "file" / "s")).make()


def test_no_half_file_is_left(storage):
    def fail(stream):
        stream.write(b"half")
        raise ValueError

    with pytest.raises(ValueError):
        storage.write("x", fail)
    assert storage.names() == []


@pytest.mark.parametrize("filesystem", ["SftpLike()", "DirFileSystem('/', LocalFileSystem())"])
def test_a_process_killed_in_the_middle_of_a_write_leaves_the_old_file(filesystem, tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    script = (
        "import os, signal\n"
        "from tests.test_storage import *\n"
        "def write(stream):\n"
        "    stream.write(bytes(10**6)); stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"fsspec_storage({filesystem}, {str(tmp_path)!r}).write('x', write)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], timeout=60)
    assert killed.returncode == -signal.SIGKILL and (tmp_path / "x").read_bytes() == b"old"


def test_an_object_store_of_fsspec_is_written_without_a_copy(monkeypatch):
    monkeypatch.delattr(MemoryFileSystem, "cp_file")
    storage = fsspec_storage(MemoryFileSystem(), "/objects")
    storage.write("x", b"one")
    assert storage.names() == ["x"]
    storage.remove_all()


def test_reader_never_sees_a_part(storage, request):
    removes_first = request.node.callspec.params["storage"] in ("smb", "webhdfs")
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
        try:
            assert storage.read("x") in contents
        except FileNotFoundError:
            assert removes_first
    thread.join()


def test_urls():
    assert is_url("s3://bucket/x") and not is_url("/a/b") and not is_url("C:/x")


BY_FSSPEC = fs.PyFileSystem(fs.FSSpecHandler(LocalFileSystem()))


@pytest.mark.parametrize("filesystem", [None, fs.LocalFileSystem(), BY_FSSPEC])
def test_a_folder_is_not_an_alias(tmp_path, filesystem):
    (tmp_path / "last").mkdir()
    assert Storage(str(tmp_path), filesystem).pointed("last") is None


OUTSIDE = ["/etc/passwd", "..", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b", "\ud800"]
USES = {
    "join": lambda storage, name: storage.join(name),
    "exists": lambda storage, name: storage.exists(name),
    "read": lambda storage, name: storage.read(name),
    "size": lambda storage, name: storage.size(name),
    "write": lambda storage, name: storage.write(name, b""),
    "append": lambda storage, name: storage.append(name, ""),
    "point": lambda storage, name: storage.point(name, "x"),
    "point to": lambda storage, name: storage.point("x", name),
    "pointed": lambda storage, name: storage.pointed(name),
    "remove": lambda storage, name: storage.remove(name),
    "remove_file": lambda storage, name: storage.remove_file(name),
    "remove_if_empty": lambda storage, name: storage.remove_if_empty(name),
}


@pytest.mark.parametrize("filesystem", [None, fs.LocalFileSystem()])
@pytest.mark.parametrize("use", USES)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, filesystem, use):
    for name in OUTSIDE:
        with pytest.raises(RunFolderError, match="is not the name of a file in"):
            USES[use](Storage(str(tmp_path / "s"), filesystem), name)


def test_the_folder_itself_is_not_removed_by_an_empty_name(storage):
    with pytest.raises(RunFolderError):
        storage.remove("")
    assert storage.exists()


@pytest.fixture
def linked(tmp_path):
    """A folder in which everything is a link to a file or folder outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"precious")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "s" / "file").symlink_to(tmp_path / "outside" / "file")
    yield Storage(str(tmp_path / "s"))
    assert (tmp_path / "outside" / "file").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "use",
    [
        lambda storage: storage.append("file", "x"),
        lambda storage: storage.append("folder/file", "x"),
        lambda storage: storage.write("folder/file", b"x"),
        lambda storage: storage.write("folder/new", b"x"),
        lambda storage: storage.remove_file("folder/file"),
    ],
)
def test_nothing_is_changed_behind_a_link(linked, use):
    with pytest.raises(StorageError, match="it is a link, or in a folder that is one"):
        use(linked)


def test_a_link_is_replaced_by_what_is_written(linked):
    linked.write("file", b"new")
    assert linked.read("file") == b"new"


def test_a_link_is_removed_without_what_it_leads_to(linked):
    linked.remove("folder")
    linked.remove_file("file")
    assert linked.names() == []


@pytest.fixture(params=["pipe", "device", "endless"])
def strange(request, tmp_path):
    if request.param == "pipe":
        os.mkfifo(tmp_path / "x")
    elif request.param == "device":
        (tmp_path / "x").symlink_to("/dev/zero")
    else:
        with open(tmp_path / "x", "wb") as file:
            file.truncate(2**40)
    return Storage(str(tmp_path))


def test_only_a_regular_file_of_some_size_is_read(strange):
    with pytest.raises(OSError, match=r"not a regular file|larger than 64"):
        strange.read("x")
    assert strange.pointed("x") is None


def test_a_pipe_is_not_written(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(StorageError, match="it is a pipe or a device"):
        Storage(str(tmp_path)).append("x", "text")


@pytest.mark.parametrize("target", [b"../../etc", b"/etc", b"..", b"", b"a\nb", b"\xff", b"x" * 5000])
def test_an_alias_of_what_is_not_beside_it_is_none(tmp_path, target):
    (tmp_path / "last").write_bytes(target)
    assert Storage(str(tmp_path)).pointed("last") is None
    (tmp_path / "best").symlink_to(target[:4000] or b"..")
    assert Storage(str(tmp_path)).pointed("best") == (None if len(target) < 5000 else "x" * 4000)


def test_text_that_cannot_be_encoded_is_appended_escaped(storage):
    storage.append("log", "\udce9\n")
    assert storage.read("log") == b"\\udce9\n"
