"""Jobs on a cluster of two nodes, which was started with a dashboard and the token of its user."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import pytest
import yaml

from ray_classy.submit import stop as stop_module
from ray_classy.submit.cluster import Cluster
from tests.trainer.nodes import PROGRAM, free_port, killed, started_node
from tests.trainer.ray_parts import digits_config

pytestmark = [pytest.mark.ray, pytest.mark.full]

TOKEN = "ab" * 32
PARTS = '''
import time

from ray_classy.hooks import ClassyHook, register_hook


@register_hook("slow_steps")
class SlowSteps(ClassyHook):
    """Makes a run last long enough to be watched."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_step(self, task):
        time.sleep(self.seconds)
'''


def wait_for_nodes(url, count):
    """Waits until the dashboard, which comes up after the head, lists that many nodes."""
    end = time.monotonic() + 90
    request = urllib.request.Request(f"{url}/nodes?view=summary", headers={"Authorization": f"Bearer {TOKEN}"})
    listed = []
    while len(listed) < count:
        assert time.monotonic() < end, listed
        time.sleep(0.3)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
            listed = json.load(answer)["data"]["summary"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """The URL of the dashboard, and the home folder that has the token."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(TOKEN)
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {"HOME": str(home), "RAY_AUTH_MODE": None, "PYTHONPATH": None, "PATH": path}
    variables["RUNTIME_ENV_RETRY_TIMES"] = "1"  # what cannot be installed is tried once, not three times
    port, dashboard = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True))
        common = ["--num-cpus=2", "--min-worker-port=0", "--max-worker-port=0", "--block"]

        def start(*options):
            node = started_node(
                [PROGRAM, "start", *options, f"--dashboard-agent-listen-port={free_port()}", *common], **variables
            )
            stack.callback(killed, node)

        ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}"]
        start("--head", *ports, "--include-dashboard=true", "--disable-usage-stats", f"--temp-dir={files}")
        variables["RAY_AUTH_MODE"] = "token"  # a node that joins sends it only if it is told to
        own = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True))
        start(f"--address=127.0.0.1:{port}", f"--temp-dir={own}")  # nodes of one folder unpack a job over one another
        wait_for_nodes(f"http://127.0.0.1:{dashboard}", 2)
        yield f"http://127.0.0.1:{dashboard}", home


@pytest.fixture
def project(tmp_path):
    """A config with a hook of the user's."""
    config = digits_config(imports=["my_parts"], hooks=[{"name": "slow_steps", "seconds": 0.02}])
    config["ray"] = {"num_workers": 2}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "my_parts.py").write_text(PARTS)
    return tmp_path


@pytest.fixture
def started(nodes, project):
    """Starts `ray-classy submit` in the folder of the project."""

    def start(*words, **variables):
        environment = {**os.environ, "HOME": str(nodes[1]), "PYTHONUNBUFFERED": "1", **variables}
        environment.pop("RAY_AUTH_MODE")
        command = [sys.executable, "-m", "ray_classy", "submit", "--address", nodes[0], *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=project, env=environment, text=True, **pipes)

    return start


@pytest.fixture
def submit(started):
    """Runs `ray-classy submit` to its end; returns exit code, output and errors."""

    def run(*words, **variables):
        process = started(*words, **variables)
        try:
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
        return process.returncode, out, err

    return run


SLOW = ("num_epochs=5", "hooks.0.seconds=0.3", "--name", "r")
ALONE = ("num_epochs=5", "hooks.0.seconds=0.25", "--name", "r", "--local")
"""In the driver, which starts faster than workers."""


def wait_for_epoch(project, count=1):
    """Waits until the run has trained for an epoch, after so many starts."""
    run, end = project / "runs" / "r", time.monotonic() + 120
    while len(starts(run)) < count or not (run / "metrics.jsonl").exists():
        assert time.monotonic() < end
        time.sleep(0.2)


def starts(run):
    return json.loads((run / "run.json").read_text())["starts"] if (run / "run.json").exists() else []


def test_a_run_is_followed_to_its_end_and_the_same_command_finds_it_finished(submit, project):
    code, out, err = submit("train", "my.yaml")
    assert code == 0, out + err
    assert "sends " in err and "my_parts.py (" in err and "train 3" in out and "test.accuracy.top_1" in out
    assert out.rstrip().endswith("succeeded")
    [run] = (project / "runs").iterdir()
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished" and facts["starts"][0]["job"].startswith(run.name)
    assert facts["config_file"] == str(project / "my.yaml")
    code, out, _ = submit("train", "my.yaml", "--num-workers", "1")
    assert code == 0 and "is already finished; nothing was trained" in out


def test_a_run_that_is_stopped_has_a_checkpoint_and_the_same_command_resumes_it(nodes, started, submit, project):
    client = started("train", "my.yaml", *SLOW)
    wait_for_epoch(project)
    code, out, err = submit("--stop", "r")
    assert code == 0 and "was asked to stop" in err and "the command that started it resumes it" in out
    assert "interrupted" in submit("--status", "r")[1]
    out, _ = client.communicate(timeout=60)
    resume = f"resume with: ray-classy submit --address {nodes[0]} train --resume"
    assert client.returncode == 130 and f"interrupted; {resume}" in out
    run = project / "runs" / "r"
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted" and (run / "last").exists()
    code, out, err = submit("train", "my.yaml", *SLOW)
    assert code == 0, out + err
    assert len(starts(run)) == 2 and "resumed_from" in starts(run)[1]


def test_a_run_that_is_not_seen_from_here_is_asked_to_stop_by_a_job(nodes, started, project, monkeypatch):
    client = started("train", "my.yaml", *ALONE)
    wait_for_epoch(project)
    monkeypatch.setattr(stop_module, "request_stop", lambda run, job: False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    cluster = Cluster(nodes[0])
    assert stop_module.stop(cluster, cluster.find("r"), 60.0).driver_exit_code == 130
    client.communicate(timeout=60)
    assert client.returncode == 130 and (project / "runs" / "r" / "last").exists()


def test_a_client_that_ends_leaves_the_job_to_the_next_one(started, submit, project):
    clients = [started("train", "my.yaml", *ALONE) for _ in range(2)]  # at the same moment
    wait_for_epoch(project)
    for client in clients:
        client.send_signal(signal.SIGINT)
    errors = [client.communicate(timeout=30)[1] for client in clients]
    assert [client.returncode for client in clients] == [130, 130]
    assert all("ray-classy: attach again with: ray-classy submit" in err and "--attach r-" in err for err in errors)
    assert all("goes on; to stop it" in err and "interrupted" not in err for err in errors)
    assert sum("runs this command already" in err for err in errors) == 1
    code, out, err = submit("--detach", "train", "my.yaml", *ALONE)
    assert code == 0 and "runs this command already" in err
    code, _, err = submit("train", "my.yaml", *ALONE, "num_epochs=6")
    assert code == 1 and "already, by another command or config. To follow it: ray-classy submit" in err
    client = started("--attach", "r")
    client.stdout.readline()
    client.kill()
    client.communicate()
    code, out, _ = submit("--attach", "r")
    assert code == 0 and "train 1 " in out and "train 5 " in out
    assert "succeeded" in submit("--status", "r")[1]


def test_the_exit_code_is_that_of_the_command_and_its_error_is_in_the_log(submit):
    code, out, err = submit("--json", "train", "my.yaml", "num_epochs=none")
    assert code == 2 and json.loads(out)["exit_code"] == 2 and "num_epochs" in err


def test_a_job_that_dies_before_its_command_is_one_error(submit):
    env = "{conda: no-such-env}"  # for `pip`, Ray copies this Python environment three times
    code, _, err = submit("train", "my.yaml", f"ray.runtime_env={env}")
    assert code == 1 and "died before its command began" in err and "onda" in err


def test_a_token_that_is_wrong_or_missing_is_one_error(submit, tmp_path):
    code, _, err = submit("--status", RAY_AUTH_TOKEN="cd" * 32)
    assert code == 1 and "refuses the token in RAY_AUTH_TOKEN" in err
    code, _, err = submit("--status", HOME=str(tmp_path))
    assert code == 1 and "asks for a token, and there is none in ~/.ray/auth_token" in err
