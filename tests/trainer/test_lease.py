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
from ray_classy.trainer.lease import Lease, check_token

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


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


def test_live_owner_keeps_it_and_killed_one_loses_it(storage):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, storage.path], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=rf"in use by process {holder.pid} on {socket.gethostname()}"):
            Lease(storage)
        holder.send_signal(signal.SIGKILL)
        deadline = time.time() + 10  # it may be a zombie for a moment: that counts as dead
        while time.time() < deadline:
            try:
                taken = Lease(storage)
                break
            except RunFolderError:
                time.sleep(0.05)
    assert read(storage)["token"] == taken.token and read(storage)["pid"] == os.getpid()
    taken.release()


def test_released_folder_is_free(storage):
    Lease(storage).release()
    Lease(storage).release()


def test_one_process_holds_it_once(storage):
    lease = Lease(storage)
    with pytest.raises(RunFolderError):
        Lease(storage)
    lease.release()


def test_a_process_with_a_reused_number_is_another_owner(storage):
    Lease(storage).release()
    storage.write("lease.json", json.dumps({**read(storage), "pid": os.getpid(), "started": 1.0}).encode())
    Lease(storage).release()


@pytest.mark.parametrize(("age", "alive"), [(1.0, True), (1000.0, False)])
def test_owner_on_another_machine_is_known_by_its_beat(storage, age, alive):
    beat = {"token": "t", "host": "elsewhere", "pid": 7, "started": 1.0, "beat": time.time() - age}
    storage.write("lease.json", json.dumps(beat).encode())
    if alive:
        with pytest.raises(RunFolderError, match="on elsewhere"):
            Lease(storage)
    else:
        Lease(storage).release()


def test_damaged_lease_holds_nothing(storage):
    storage.write("lease.json", b"{")
    Lease(storage).release()


def test_owner_that_lost_it_does_not_take_it_back(storage, monkeypatch):
    monkeypatch.setattr(lease_module, "_SECONDS_BETWEEN_RENEWALS", 0.01)
    lease = Lease(storage)
    while lease._thread.is_alive():  # it may be about to renew the lock when the other takes it
        storage.write("lease.json", json.dumps({**read(storage), "token": "other"}).encode())
        lease._thread.join(0.1)
    lease.release()
    assert read(storage)["token"] == "other" and read(storage)["beat"] > 0


def test_beat_goes_on(storage, monkeypatch):
    monkeypatch.setattr(lease_module, "_SECONDS_BETWEEN_RENEWALS", 0.01)
    lease = Lease(storage)
    first = read(storage)["beat"]
    deadline = time.time() + 5
    while read(storage)["beat"] == first and time.time() < deadline:
        time.sleep(0.01)
    assert read(storage)["beat"] > first
    lease.release()


def test_token_of_another(storage):
    lease = Lease(storage)
    check_token(storage, lease.token)
    check_token(storage, None)
    with pytest.raises(RunFolderError, match="taken over"):
        check_token(storage, "mine")
    lease.release()
