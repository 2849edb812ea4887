import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from ray_classy.errors import RunFolderError
from ray_classy.storage import Storage
from ray_classy.trainer import lease as lease_module
from ray_classy.trainer.lease import Lease, check_token, in_use
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import children

HOLD = """
import sys, time
from ray_classy.storage import Storage
from ray_classy.trainer.lease import Lease
lease = Lease(Storage(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def read(storage):
    return json.loads(storage.read("lease.json"))


def change(storage, seconds=None, **values):
    """Changes the lease file, and when it was written."""
    storage.write("lease.json", json.dumps({**read(storage), **values}).encode())
    if seconds is not None:
        os.utime(storage.join("lease.json"), (time.time() + seconds,) * 2)


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


@pytest.fixture
def store(tmp_path):
    """A folder in a store: without file locks."""
    from pyarrow import fs

    (tmp_path / "run").mkdir()
    return Storage("run", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that has no locks, like some network disks."""

    def refuse(file, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lease_module.fcntl, "flock", refuse)


def holding(storage, *prefix):
    holder = subprocess.Popen([*prefix, sys.executable, "-c", HOLD, storage.path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def test_live_owner_keeps_it_and_killed_one_loses_it(storage):
    with holding(storage) as holder:
        with pytest.raises(RunFolderError, match=rf"in use by process {holder.pid} on {socket.gethostname()}"):
            Lease(storage)
        holder.send_signal(signal.SIGKILL)
    taken = Lease(storage)
    assert read(storage)["token"] == taken.token and read(storage)["pid"] == os.getpid()
    taken.release()


def test_a_live_owner_in_another_container_keeps_it(storage):
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no right to make a namespace of process numbers")
    with holding(storage, *unshare) as holder:
        change(storage, -1000.0)  # however long ago it was renewed
        with pytest.raises(RunFolderError, match=rf"in use by process \d+ on {socket.gethostname()}"):
            Lease(storage)
        os.kill(children(holder.pid)[0], signal.SIGKILL)
    Lease(storage).release()


def test_only_of_a_process_elsewhere_it_is_said_that_it_may_have_died(storage):
    lease = Lease(storage)
    with pytest.raises(RunFolderError, match=r"another name$"):
        Lease(storage)
    assert in_use(storage).endswith("another name")
    lease.release()
    assert in_use(storage) is None
    change(storage, 0.0, host="elsewhere", pid=7, boot="another")
    for message in (in_use(storage), refusal(storage)):
        assert "on elsewhere" in message and message.endswith("(If it has died there, its lock expires within 60 s)")
    change(storage, -1000.0)
    assert in_use(storage) is None


def refusal(storage):
    with pytest.raises(RunFolderError) as caught:
        Lease(storage)
    return str(caught.value)


def test_a_lock_whose_holder_was_killed_is_not_in_use(storage):
    with holding(storage) as holder:
        assert f"in use by process {holder.pid}" in in_use(storage)
        holder.kill()
    assert in_use(storage) is None and in_use(Storage(storage.join("none"))) is None


def test_released_folder_is_free(storage):
    Lease(storage).release()
    Lease(storage).release()


@pytest.mark.parametrize("place", ["storage", "store"])
def test_one_process_holds_it_once(place, request):
    storage = request.getfixturevalue(place)
    lease = Lease(storage)
    with pytest.raises(RunFolderError):
        Lease(storage)
    lease.release()


def test_a_process_with_a_reused_number_is_another_owner(store):
    Lease(store).release()
    here = lease_module._this_process("", None)
    change(store, pid=os.getppid(), started=1.0, boot=here.boot, pids=here.pids)
    Lease(store).release()


@pytest.mark.parametrize(("seconds", "alive"), [(-1.0, True), (-1000.0, False), (30.0, True), (1000.0, False)])
@pytest.mark.parametrize("locks", [True, False])
def test_owner_on_another_machine_is_known_by_the_time_of_its_file(storage, seconds, alive, locks, request):
    if not locks:
        request.getfixturevalue("no_locks")
    Lease(storage).release()
    change(storage, seconds, host="elsewhere", pid=7, boot="another", lock=[1, 2] if locks else None)
    if alive:
        with pytest.raises(RunFolderError, match="on elsewhere"):
            Lease(storage)
    else:
        Lease(storage).release()


@pytest.mark.parametrize("lock", [[1, 2], None])
def test_an_owner_whose_lock_is_on_another_mount_is_known_by_the_time_of_its_file(storage, lock):
    Lease(storage).release()
    boot = lease_module._this_process("", None).boot
    change(storage, -1.0, host="container", pid=7, boot=boot, pids="another", lock=lock)
    with pytest.raises(RunFolderError, match="on container"):
        Lease(storage)


def test_a_live_owner_keeps_it_when_the_lock_file_is_deleted(storage):
    with holding(storage) as holder:
        os.remove(storage.join("lock"))
        with pytest.raises(RunFolderError, match=f"in use by process {holder.pid}"):
            Lease(storage)
        holder.kill()


@pytest.mark.parametrize("end", ["release", "kill"])
def test_a_forked_child_does_not_keep_it(storage, end):
    reader, writer = os.pipe()
    holder = os.fork()
    if not holder:
        lease = Lease(storage)
        if not os.fork():
            os.write(writer, str(os.getpid()).encode())
            time.sleep(60)
            os._exit(0)
        lease.release() if end == "release" else time.sleep(60)
        os._exit(0)
    child = int(os.read(reader, 20))
    if end == "kill":
        os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    Lease(storage).release()
    os.kill(child, signal.SIGKILL)


def test_an_owner_that_is_not_known_has_no_number(storage):
    Lease(storage).release()
    lock = lease_module._FileLock(storage)
    with pytest.raises(RunFolderError, match="in use by another process"):
        Lease(storage)
    lock.release()


@pytest.mark.parametrize("ahead", [-61.0, 3600.0])
def test_the_clock_of_the_host_does_not_count(storage, monkeypatch, ahead):
    Lease(storage).release()
    change(storage, host="elsewhere", pid=7, boot="another")
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + ahead)
    with pytest.raises(RunFolderError, match="on elsewhere"):
        Lease(storage)


def test_a_store_without_times_is_watched_for_renewals(store, monkeypatch):
    monkeypatch.setattr(lease_module, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    monkeypatch.setattr(Storage, "modified", lambda storage, name: (_ for _ in ()).throw(OSError("no times")))
    lease = Lease(store)
    store.write("lease.json", json.dumps({**read(store), "boot": "another"}).encode())
    lease._holder.boot = "another"
    with pytest.raises(RunFolderError, match="in use"):
        Lease(store)
    lease._stop.set()
    lease._thread.join()
    Lease(store).release()


def test_of_two_that_begin_at_once_in_a_store_one_goes_on(store, monkeypatch):
    def wait(seconds):
        store.write("lease.json", json.dumps({"token": "other", "pid": 7}).encode())

    monkeypatch.setattr(time, "sleep", wait)
    with pytest.raises(RunFolderError, match="taken over by process 7"):
        Lease(store)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"token": 3}', b"\xff"])
def test_damaged_lease_holds_nothing(storage, content):
    storage.write("lease.json", content)
    Lease(storage).release()


def test_a_lock_that_is_a_link_is_not_followed(storage, tmp_path):
    (tmp_path / "other").write_text("text")
    os.symlink("other", tmp_path / "lock")
    Lease(storage).release()
    assert (tmp_path / "other").read_text() == "text"


@pytest.mark.parametrize("place", ["storage", "store"])
def test_owner_that_lost_it_does_not_take_it_back(place, request, monkeypatch):
    storage = request.getfixturevalue(place)
    monkeypatch.setattr(lease_module, "_SECONDS_BETWEEN_RENEWALS", 0.01)
    lease = Lease(storage)
    while lease._thread.is_alive():  # it may be about to renew the lock when the other takes it
        storage.write("lease.json", json.dumps({**read(storage), "token": "other"}).encode())
        lease._thread.join(0.1)
    lease.release()
    assert read(storage)["token"] == "other" and read(storage)["pid"]


@pytest.mark.parametrize("place", ["storage", "store"])
def test_the_lease_is_renewed(place, request, monkeypatch):
    storage = request.getfixturevalue(place)
    monkeypatch.setattr(lease_module, "_SECONDS_BETWEEN_RENEWALS", 0.01)
    lease = Lease(storage)
    first, deadline = storage.modified("lease.json"), time.monotonic() + 5
    while storage.modified("lease.json") == first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert storage.modified("lease.json") > first
    lease.release()


def test_token_of_another(storage):
    lease = Lease(storage)
    check_token(storage, lease.token)
    check_token(storage, None)
    with pytest.raises(RunFolderError, match="taken over"):
        check_token(storage, "mine")
    lease.release()


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.record.begin(None, ["x"]),
        lambda run: run.record.end("finished", None),
        lambda run: run.requests.stop(),
        lambda run: run.requests.checkpoint(),
        lambda run: run.metrics.add({"phase_type": "train"}),
        lambda run: run.log("line"),
    ],
)
def test_a_process_that_lost_the_run_writes_nothing(tmp_path, write):
    run = RunFolder.create(str(tmp_path), "r")
    run.describe(None, ["x"])
    run.log("mine")
    change(run.storage, token="other")
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    try:
        write(run)
    except RunFolderError as error:
        assert "taken over" in str(error)
    run.release()
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before
