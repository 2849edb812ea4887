"""The options of `ray-classy submit`; what it does is tested in tests/submit."""

import pytest

from ray_classy.cli.main import main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "submit takes a command, such as: ray-classy submit --address"),
        (["ls"], "submit runs train, tune, evaluate and predict, not 'ls'"),
        (["--follow", "--detach", "train", "x.yaml"], "take one of them"),
        (["--status", "--stop", "j"], "submit does one thing at a time, not status and stop"),
        (["--attach", "j", "train", "x.yaml"], "not attach and a command"),
        (["--grace", "5", "train", "x.yaml"], "goes with --stop"),
        (["--stop", "j", "--grace", "-1"], "at least 0"),
        (["--image", "i", "train", "x.yaml"], "--image goes with --kuberay"),
        (["--kuberay", "--address", "http://h:1", "train", "x.yaml"], "--kuberay takes a command and no --address"),
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
