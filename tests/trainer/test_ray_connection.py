"""Connecting to clusters: addresses, tokens, and what a local Ray leaves to others."""

import json
import os
import socket
import stat
import subprocess
import sys
import time

import pytest
from ray._private.authentication import authentication_token_setup

from ray_classy.errors import ResourceError
from ray_classy.ray_compat.authentication import with_token_of
from ray_classy.trainer.ray_connection import connected, environment
from tests.trainer.nodes import head
from tests.trainer.test_ray_cluster import write_config


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("localhost", "the port is missing; expected host:port"),
        ("head:node", "expected host:port"),
        ("head:99999", "there is no port 99999"),
        ("http://127.0.0.1:8265", "http:// is not the address of a cluster, but may be that of its dashboard"),
        (" localhost:6379", "expected host:port"),
    ],
)
def test_a_text_that_is_no_address_is_refused(monkeypatch, address, text):
    with pytest.raises(ResourceError, match=f"--address .* is '{address}': {text}"), connected(address):
        pass
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match=f"RAY_ADDRESS is '{address}': {text}"), connected(None):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host-at-all.invalid:6379", "[::1]:1"])
def test_an_address_at_which_nothing_listens_is_refused_at_once(address):
    with pytest.raises(ResourceError, match="no Ray cluster answers at"), connected(address):
        pass


@pytest.mark.full
def test_a_server_that_is_no_cluster_is_refused_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address, began = f"127.0.0.1:{silent.getsockname()[1]}", time.monotonic()
        with pytest.raises(ResourceError, match="no Ray cluster answers at"), connected(address):
            pass
    assert time.monotonic() - began < 30


def test_shared_memory_of_a_cluster_cannot_be_chosen():
    text = r"ray\.object_store_memory is for a local Ray"
    with pytest.raises(ResourceError, match=text), connected("127.0.0.1:1", object_store_memory=1 << 30):
        pass


def test_variables_are_as_before_after_the_block(monkeypatch):
    monkeypatch.setenv("ONE", "1")
    with environment({"ONE": "2", "TWO": "2"}):
        assert (os.environ["ONE"], os.environ["TWO"]) == ("1", "2")
    with environment({"ONE": "2"}, replace=True):
        assert os.environ["ONE"] == "2"
    assert os.environ["ONE"] == "1" and "TWO" not in os.environ


@pytest.mark.ray
def test_another_address_than_that_of_the_connection_is_refused(ray_cluster):
    with pytest.raises(ResourceError, match="connected to the cluster at"), connected("127.0.0.1:1"):
        pass


@pytest.mark.ray
def test_a_dashboards_address_in_the_environment_is_not_that_of_the_connection(ray_cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with connected(None):
        pass


@pytest.mark.ray
def test_options_of_a_connection_that_the_user_made_are_refused(ray_cluster):
    with pytest.raises(ResourceError, match=r"give runtime_env to ray\.init"), connected(None, runtime_env={"pip": []}):
        pass


ASKING = None if hasattr(authentication_token_setup, "AUTH_MODE_ENV_VAR") else "token"
"""The `RAY_AUTH_MODE` of a head that asks for the token in the user's home: newer releases do so by default."""
TOKEN = "ab" * 32


@pytest.mark.ray
def test_the_token_is_sent_to_a_cluster_that_asks_for_it_and_only_there(tmp_path, monkeypatch):
    """`ray start --head` asks for the token that it finds in the user's home."""
    home = tmp_path / "h"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(TOKEN)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("RAY_AUTH_MODE")

    def refused(address, text, **variables):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(ResourceError, match=text), with_token_of(address):
                pass

    with head(home, RAY_AUTH_MODE=ASKING) as address:
        with with_token_of(address) as asks:
            assert asks and os.environ["RAY_AUTH_MODE"] == "token"
        assert "RAY_AUTH_MODE" not in os.environ
        refused(address, "asks for a token, but RAY_AUTH_MODE=disabled is set", RAY_AUTH_MODE="disabled")
        refused(address, "refuses the token in RAY_AUTH_TOKEN: run `ray get-auth-token`", RAY_AUTH_TOKEN="cd" * 32)
        refused(address, "there is no token in '/no/file'", RAY_AUTH_TOKEN_PATH="/no/file")
        refused(address, "asks for a token, and you have none", HOME=str(tmp_path))
        (tmp_path / "token").write_text(TOKEN)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        with with_token_of(address) as asks:
            assert asks


def run_command(words, cwd, **variables):
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    command = [sys.executable, "-m", "ray_classy", "train", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.ray
@pytest.mark.full
def test_a_run_on_a_cluster_with_a_token(tmp_path):
    config, home = write_config(tmp_path / "p"), tmp_path / "h"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(TOKEN)
    with head(home, RAY_AUTH_MODE=ASKING) as address:
        variables = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": None, "HOME": str(home)}
        done = run_command([str(config), "--json"], tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["test"]["accuracy"]["top_1"] > 0.3


@pytest.mark.ray
@pytest.mark.full
def test_a_cluster_without_a_token_takes_a_user_who_has_one(tmp_path):
    config, home = write_config(tmp_path / "p"), tmp_path / "h"
    (home / ".ray").mkdir(parents=True)
    with head(home) as address:
        (home / ".ray" / "auth_token").write_text(TOKEN)
        variables = {"RAY_AUTH_MODE": None, "HOME": str(home)}
        done = run_command([str(config), "--address", address], tmp_path, **variables)
    assert done.returncode == 0, done.stderr


LOCAL_RUN = """
import os, socket, stat
import ray
from ray_classy.trainer.ray_connection import connected

with connected(None):
    node = ray.nodes()[0]
    folder = os.path.dirname(os.path.dirname(ray._private.worker._global_node.get_session_dir_path()))
    found = ray.get(ray.remote(lambda: __import__("secrets").__file__).remote())
    port = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
    private = stat.S_IMODE(os.stat(folder).st_mode)
    print(node["NodeManagerAddress"], oct(private), os.path.dirname(found) == os.path.dirname(os.__file__))
    try:
        socket.create_connection((socket.gethostbyname(socket.gethostname()), port), 2)
        print("others can connect")
    except OSError:
        print("no one else can connect")
print(os.path.exists(folder), os.environ.get("RAY_AUTH_MODE"))
"""


@pytest.mark.ray
@pytest.mark.full
def test_a_local_ray_is_private_and_reads_no_modules_of_the_working_directory(tmp_path):
    home = tmp_path / ("long" * 30)
    home.mkdir()
    (tmp_path / "secrets.py").write_text("raise RuntimeError('found in the working directory')")
    variables = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    variables.pop("RAY_AUTH_MODE")
    command = [sys.executable, "-P", "-c", LOCAL_RUN]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[0] == "127.0.0.1 0o700 True", done.stderr
    assert done.stdout.splitlines()[-1] == "False None"
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600


SEES = """
import os
import ray
from ray_classy.models import ClassyModel, register_model
from torch import nn

@register_model("sees_model")
class SeesModel(ClassyModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        if ray.is_initialized():  # on a worker, not in the dry run
            assert (os.environ["OPEN"], os.environ["A_SECRET"]) == ("yes", "hidden-from-all")
        return self.layer(x.flatten(1))
"""


@pytest.mark.ray
@pytest.mark.full
def test_a_run_is_resumed_with_its_runtime_environment_and_shared_memory(tmp_path):
    config = json.loads(write_config(tmp_path / "p").read_text())
    (tmp_path / "p" / "sees_parts.py").write_text(SEES)
    config.update(imports=["sees_parts"], model={"name": "sees_model"})
    variables = {"OPEN": "yes", "A_SECRET": "hidden-from-all"}
    config["ray"] = {"object_store_memory": 200 << 20, "runtime_env": {"env_vars": variables}, "num_workers": 2}
    (tmp_path / "p" / "task.json").write_text(json.dumps(config))
    done = run_command([str(tmp_path / "p" / "task.json"), "--name", "run"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hidden-from-all" not in (tmp_path / "runs" / "run" / "config.yaml").read_text()
    done = run_command(["--resume", "runs/run", "num_epochs=2"], tmp_path, A_SECRET="hidden-from-all")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "runs" / "run" / "metrics.jsonl").read_text().splitlines()) == 4
