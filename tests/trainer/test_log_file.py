import logging
import pickle
import re
import subprocess
import sys
import threading
import time

import pytest
from pyarrow import fs

from ray_classy.storage import Storage
from ray_classy.trainer.log_file import LogFile
from ray_classy.trainer.logs import log_to_folder, tail_log
from ray_classy.trainer.run_folder import RunFolder
from tests.trainer.test_storage_failures import Store

_log = logging.getLogger("ray_classy.test")


@pytest.fixture
def requests(s3_server, caplog):
    """The methods of the requests for objects named log.txt that the S3 server has answered so far."""
    caplog.set_level(logging.INFO, "werkzeug")
    logging.getLogger("werkzeug").setLevel(logging.INFO)
    yield lambda: re.findall(r'"(\w+) \S*log\.txt', caplog.text)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)


def in_store(tmp_path, store, seconds=60.0):
    storage = Storage(str(tmp_path), fs.PyFileSystem(fs.FSSpecHandler(store)))
    return storage, LogFile(storage, "log.txt", seconds)


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_many_lines_cost_a_store_few_requests(s3, requests):
    run = RunFolder(s3.url("r"))
    began = time.monotonic()
    with log_to_folder(run):
        for number in range(500):
            _log.info("line %d", number)
        assert time.monotonic() - began < 1  # not a request for each
    lines = run.storage.read("log.txt").decode().splitlines()
    assert [int(line.rpartition(" ")[2]) for line in lines] == list(range(500))
    assert requests().count("PUT") <= 2


def test_looking_at_a_log_that_does_not_grow_reads_nothing(s3, requests, capsys):
    run = RunFolder(s3.url("r"))
    run.log_now("before")
    with tail_log(run, seconds=0.02):
        so_far = len(requests())
        wait_until(lambda: len(requests()) > so_far + 5)
        assert set(requests()[so_far:]) == {"HEAD"}
        run.log_now("during")
    assert capsys.readouterr().err.endswith("  during\n")


def test_a_line_after_a_quiet_time_is_written_at_once(tmp_path):
    storage, log = in_store(tmp_path, Store())
    log.add("one")
    wait_until(lambda: storage.exists("log.txt"))
    log.add("two")
    log.add("three")
    assert storage.read("log.txt") == b"one\n"
    log.flush()
    assert storage.read("log.txt") == b"one\ntwo\nthree\n"


def test_later_lines_are_written_within_the_time_between_writes(tmp_path):
    storage, log = in_store(tmp_path, Store(), seconds=0.1)
    log.add("one")
    wait_until(lambda: storage.exists("log.txt"))
    log.add("two")
    wait_until(lambda: storage.read("log.txt") == b"one\ntwo\n")


def test_lines_that_a_store_refused_come_with_the_next(tmp_path, capsys):
    store = Store(failures=2, file="log.txt")
    storage, log = in_store(tmp_path, store, seconds=0.01)
    log.add("one")
    log.add("two")
    wait_until(lambda: storage.exists("log.txt") and storage.read("log.txt") == b"one\ntwo\n")
    assert capsys.readouterr().err.count("the store is away") == 1


def test_no_thread_is_left_when_all_is_written(tmp_path):
    storage, log = in_store(tmp_path, Store(), seconds=0.01)
    before = set(threading.enumerate())
    for line in (b"one\n", b"one\ntwo\n"):
        log.add(line.decode().split()[-1])
        wait_until(lambda: set(threading.enumerate()) <= before)
        assert storage.read("log.txt") == line


def test_lines_of_other_processes_stay(tmp_path):
    storage, log = in_store(tmp_path, Store())
    other = pickle.loads(pickle.dumps(log))
    for number in range(3):
        (log, other)[number % 2].add(str(number))
        (log, other)[number % 2].flush()
    assert storage.read("log.txt") == b"0\n1\n2\n"


def test_lines_are_written_when_the_interpreter_ends(s3):
    script = (
        "from ray_classy.storage import Storage\n"
        "from ray_classy.trainer.log_file import LogFile\n"
        f"storage = Storage({s3.url('r')!r})\n"
        "log = LogFile(storage, 'log.txt', 60)\n"
        "log.add('0')\n"
        "while not storage.exists('log.txt'): pass\n"
        "log.add('1')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert Storage(s3.url("r")).read("log.txt") == b"0\n1\n"
