from types import SimpleNamespace

import pytest

from ray_classy.errors import RunError
from ray_classy.submit import follow as module
from ray_classy.submit.cluster import Cluster, LostConnection
from ray_classy.submit.follow import Written, exit_code, follow
from tests.submit.servers import JobServer


def job(status, code=None, message=None, node=None):
    facts = {"status": status, "driver_exit_code": code, "message": message, "driver_node_id": node}
    return SimpleNamespace(submission_id="j", **facts)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (job("SUCCEEDED", 0), 0),
        (job("FAILED", 2), 2),
        (job("FAILED", 130), 130),
        (job("FAILED", -9), 137),
        (job("STOPPED"), 143),
    ],
)
def test_the_exit_code_is_that_of_the_command(ended, code):
    assert exit_code(ended) == code


def test_a_job_that_died_before_its_command_is_one_error():
    with pytest.raises(RunError, match="the job j died before its command began: no such package"):
        exit_code(job("FAILED", None, "\nno such package\n"))


def test_the_tracebacks_of_a_cluster_are_left_out():
    frame = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^^^\n'
    message = f"runtime_env setup failed:\n{frame}OSError: x\n\nDuring ...:\n{frame}RuntimeError: no pip\nERROR: no"
    assert module._why(message) == "runtime_env setup failed:\nRuntimeError: no pip\nERROR: no"
    assert module._why(frame + "KeyError: 1") == "KeyError: 1" and module._why(None) == "Ray does not say why"
    assert len(module._why("first\n" + "x" * 99 * 99)) > 2000 and module._why("a\n" + "b\n" * 5000).startswith("a\nb")


def test_a_job_whose_node_was_lost_is_one_error():
    with pytest.raises(RunError, match="the job j died and its command with it: the supervisor died"):
        exit_code(job("FAILED", None, "the supervisor died", node="ab12"))


def test_a_job_that_does_not_start_says_what_it_waits_for(monkeypatch, capsys):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_REMARKS", 0.0)
    jobs = iter([SimpleNamespace(status="PENDING", message="no node", runtime_env={}), job("RUNNING")])
    module._wait_for_start(SimpleNamespace(info=lambda identity: next(jobs)), "j")
    assert "the job j has waited for 0 s: no node\n" in capsys.readouterr().err
    assert "Ray prepares `pip` of ray.runtime_env" in module._cause(SimpleNamespace(runtime_env={"pip": ["emoji"]}))


def test_each_piece_of_a_log_is_printed_once_though_it_is_read_again():
    printed = []
    written = Written(printed.append)
    for position, text in [(0, "ab\n"), (3, "cd"), (0, "ab\ncd"), (5, "e\n"), (0, "a"), (1, "b\ncde\nf")]:
        written.add(text, position)
    assert printed == ["ab\n", "cd", "e\n", "f"]


def test_a_log_whose_connection_is_lost_is_followed_to_the_end(capsys):
    server = JobServer(["a\n", "b\n", None, "c\n", None, "d\n"], status="FAILED", driver_exit_code=3)
    printed = []
    info = follow(Cluster(server.url), "j", printed.append)
    server.stop()
    assert "".join(printed) == "a\nb\nc\nd\n" and exit_code(info) == 3
    assert capsys.readouterr().err.count("lost the connection") == 2


def test_a_server_that_stays_away_is_given_up(capsys):
    server = JobServer(["a\n", None], status="SUCCEEDED")
    cluster, printed = Cluster(server.url), []

    def write(text):
        printed.append(text)
        server.stop()

    with pytest.raises(LostConnection, match="the job may go on"):
        follow(cluster, "j", write, patience=1.0)
    assert printed == ["a\n"]
