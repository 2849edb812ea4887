"""The options of `ray-classy submit`; what it does is tested in tests/submit."""

import sys

import pytest
import yaml

from ray_classy.cli.main import main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "submit takes a command, such as: ray-classy submit --address"),
        (["ls"], "submit runs train, tune, evaluate and predict, not 'ls'"),
        (["--address", "", "--status"], "--address is empty"),
        (["--follow", "--detach", "train", "x.yaml"], "take one of them"),
        (["--status", "--stop", "j"], "submit does one thing at a time, not status and stop"),
        (["--attach", "j", "train", "x.yaml"], "not attach and a command"),
        (["--grace", "5", "train", "x.yaml"], "goes with --stop"),
        (["--stop", "j", "--grace", "-1"], "at least 0"),
        (["--image", "i", "train", "x.yaml"], "--image goes with --kuberay"),
        (["--kuberay", "--address", "http://h:1", "train", "x.yaml"], "--kuberay takes a command and no --address"),
        (["--kuberay", "--json", "train", "x.yaml"], "--kuberay prints YAML: leave out --json"),
        (["--adress", "http://h:1", "train", "x.yaml"], "did you mean '--address'"),
        (["train", "x.yaml", "--adress", "h"], "did you mean '--address'"),
        (["train", "none.yaml"], "none.yaml: there is no such file"),
    ],
)
def test_mistakes_are_reported_before_a_cluster_is_asked(capsys, words, text):
    assert main(["submit", *words]) == 2
    assert text in capsys.readouterr().err


def test_a_manifest_is_printed_and_nothing_is_submitted(capsys):
    words = ["submit", "--kuberay", "train", "recipe:digits", "--storage-path", "s3://bucket/runs"]
    assert main(words) == 0
    assert "kind: RayJob\n" in capsys.readouterr().out


def test_a_manifest_has_modules_as_they_are_and_says_what_it_must_not_hold(capsys, tmp_path, monkeypatch):
    code = 'def get(token: str = "", api_key=None):\n    return api_key\n'
    (tmp_path / "my_keys.py").write_text(code)
    (tmp_path / "my.yaml").write_text("imports: [my_keys]\nray: {runtime_env: {env_vars: {API_KEY: abcd}}}\n")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    assert main(["submit", "--kuberay", "train", str(tmp_path / "my.yaml"), "--storage-path", "/shared"]) == 0
    out, err = capsys.readouterr()
    files, ray_job = yaml.safe_load_all(out)
    shipped = {key.partition("-")[2]: text for key, text in files["data"].items()}
    assert shipped["my_keys.py"] == code and yaml.safe_load(ray_job["spec"]["runtimeEnvYAML"])
    assert "all pods must see /shared" in err and "warning: ray.runtime_env.env_vars.API_KEY holds a secret" in err
