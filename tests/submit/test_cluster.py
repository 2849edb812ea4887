"""Requests to a job server end in time, by an answer or by one error."""

import http.server
import importlib.util
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from ray_classy.errors import ResourceError, UnavailableError
from ray_classy.submit import cluster as module
from ray_classy.submit.cluster import Cluster, LostConnection


@pytest.fixture
def server():
    """The URL of a job server that asks for the token "right", and knows no more than its version."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            token = self.headers.get("Authorization")
            known = {None: (401, "Unauthorized"), "Bearer right": (200, '{"ray_version": "2.60.0"}')}
            status, text = known.get(token, (403, "Forbidden"))
            status, text = (500, "Traceback\n  x\nKeyError: no job") if "jobs" in self.path else (status, text)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{started.server_address[1]}"
        started.shutdown()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "no-such-host-at-all.invalid:8265"])
def test_an_address_at_which_nothing_listens_is_refused_at_once(address):
    with pytest.raises(ResourceError, match=r"no Ray dashboard answers at http://.*give the address of a cluster"):
        Cluster(address)


@pytest.mark.parametrize("address", ["ray://host:10001", "http://", "host:port"])
def test_a_text_that_is_no_url_of_a_dashboard_is_refused(address):
    with pytest.raises(ResourceError, match="is not the address of a Ray dashboard"):
        Cluster(address)


def test_the_extra_is_asked_for_in_one_message(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'ray_classy\[cluster\]'"):
        Cluster("http://127.0.0.1:1")


def test_the_users_token_is_sent_where_it_is_asked_for(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # which Ray's client would prefer
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ResourceError, match=r"asks for a token, and there is none in ~/.ray/auth_token: run `ray get"):
        Cluster(server)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(ResourceError, match="refuses the token in RAY_AUTH_TOKEN: run `ray get-auth-token` on a node"):
        Cluster(server)
    (tmp_path / "token").write_text("right\n")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(
        ResourceError, match=r"says: Request failed with status code 500: Traceback KeyError: no job\.$"
    ):
        Cluster(server).info("j")


def test_a_job_of_another_program_is_named_as_that(monkeypatch):
    foreign = SimpleNamespace(submission_id="raysubmit_1", metadata={})
    cluster = Cluster.__new__(Cluster)
    monkeypatch.setattr(cluster, "_all_jobs", lambda: [foreign], raising=False)
    with pytest.raises(ResourceError, match=r"raysubmit_1 was not submitted by .*`ray job stop raysubmit_1`"):
        cluster.find("raysubmit_1")


def test_a_name_that_several_active_jobs_have_is_refused(monkeypatch):
    def made(identity, status):
        metadata = {"ray_classy": "0", "name": "r"}
        return SimpleNamespace(submission_id=identity, metadata=metadata, status=status, start_time=0)

    cluster, jobs = Cluster.__new__(Cluster), [made("r-1", "RUNNING"), made("r-2", "PENDING"), made("r-3", "FAILED")]
    monkeypatch.setattr(cluster, "_all_jobs", lambda: jobs, raising=False)
    with pytest.raises(ResourceError, match="2 jobs of the name 'r' are active; give the id of one: r-1, r-2"):
        cluster.find("r")
    assert cluster.find("r-1").submission_id == "r-1"
    del jobs[0]
    assert cluster.find("r").submission_id == "r-2"


def test_a_job_that_is_withdrawn_leaves_the_list_when_it_has_ended(monkeypatch):
    states, done = iter(["PENDING", "STOPPED"]), []
    cluster = Cluster.__new__(Cluster)
    monkeypatch.setattr(cluster, "info", lambda identity: SimpleNamespace(status=next(states)), raising=False)
    steps = {name: lambda identity, name=name: done.append(name) for name in ("stop_job", "delete_job")}
    monkeypatch.setattr(cluster, "_client", SimpleNamespace(**steps), raising=False)
    cluster.withdraw("r-1")
    assert done == ["stop_job", "delete_job"]


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.2)
    began = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(LostConnection, match="does not answer within 0 s"),
    ):
        Cluster(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - began < 10
