"""Secrets are in no file and in no output of a run, which can be resumed nevertheless."""

import pytest

from ray_classy.hooks import ClassyHook, register_hook
from ray_classy.storage import Storage
from ray_classy.urls import files_below, read_bytes

SECRET = "wJalrXUtnFEMIbPx"
HOOK = f"hooks=[{{name: test_sends, api_key: {SECRET}, url: 'https://host/x?X-Amz-Signature={SECRET}'}}]"


@register_hook("test_sends")
class Sends(ClassyHook):
    on_phase_start = on_step = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, api_key: str, url: str, fails: bool = False):
        super().__init__()
        self.api_key, self.url, self.fails = api_key, url, fails

    def on_start(self, task):
        if self.fails:
            raise RuntimeError(f"cannot reach {self.url} with api_key={self.api_key}")


@pytest.fixture
def store(s3):
    """The URL of a folder in a store, with credentials."""
    return s3.url("runs").replace("key:secret@", f"AKIA1:{SECRET}%2F@")


def test_no_file_of_a_run_has_a_secret(local, tmp_path):
    outcome = local("--name", "r", HOOK)
    assert outcome.code == 0
    files = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) > 6 and not any(SECRET.encode() in content for content in files)
    assert b"X-Amz-Signature=***" in (tmp_path / "runs/r/config.yaml").read_bytes()


def test_no_output_has_a_secret(local, ray_classy, config):
    for outcome in (
        local("--name", "r", "--json", HOOK),
        local("--verbose", HOOK, "hooks.0.fails=true"),
        local(f"hooks.0.api_key={SECRET}"),
        local(f"unknown.password={SECRET} and {SECRET}"),
        ray_classy("check", config, "--local", HOOK),
        ray_classy("check", config, "--local", "--json", HOOK),
        ray_classy("check", config, "--local", HOOK, f"hooks.0.url.token={SECRET}"),
        ray_classy("ls", "runs/r", "--json"),
        ray_classy("show", "runs/r", "--json"),
    ):
        assert SECRET not in outcome.out + outcome.err


def test_a_run_is_resumed_with_secrets_of_the_environment(local, ray_classy, monkeypatch):
    local("--name", "r", HOOK)
    refused = ray_classy("train", "--resume", "runs/r", "--local", "num_epochs=2")
    assert refused.code == 2 and "hooks.0.api_key: is masked (***)" in refused.err
    monkeypatch.setenv("api_key", SECRET)
    assert ray_classy("train", "--resume", "runs/r", "--local", "num_epochs=2").code == 0


def test_the_same_command_resumes_its_run_also_with_other_credentials(local, ray_classy, config):
    local("--name", "r", HOOK)
    outcome = local("--name", "r", HOOK.replace(SECRET, "another"))
    assert outcome.code == 0 and "already finished" in outcome.out


def test_a_run_in_a_store_is_resumed_with_credentials_of_the_environment(local, ray_classy, store, s3, monkeypatch):
    outcome = local("--name", "r", "--storage-path", store)
    assert outcome.code == 0 and SECRET not in outcome.out + outcome.err
    contents = [read_bytes(Storage(store).join(name)) for name, _ in files_below(store)]
    assert len(contents) > 5 and not any(SECRET.encode() in content for content in contents)
    command = outcome.out.split("train it longer:")[1].split("\n")[1].split()[1:]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert ray_classy(*(word.strip("'") for word in command)).code == 0
