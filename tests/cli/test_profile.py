import json

import pytest

from ray_classy.cli.main import main

STEPS = ["--steps", "2", "--warmup", "1"]


def test_it_says_where_the_time_goes_and_what_to_try(capsys, tmp_path):
    trace = tmp_path / "t.json"
    assert main(["profile", "configs/digits.yaml", *STEPS, "--trace", str(trace)]) == 0
    told = capsys.readouterr().out
    assert "mean of 2 train steps" in told and "rows per second" in told and "what limits it: " in told
    assert "forward pass of the model" in told and "amp_args" in told and "--try" in told
    assert trace.is_file() and f"trace of three steps: {trace}" in told


@pytest.mark.full
def test_each_key_is_measured(capsys, tmp_path):
    words = ["amp_args={amp_type: pytorch, dtype: bfloat16}", "compile={backend: eager}"]
    where = ["--trace", str(tmp_path / "t.json")]
    assert main(["profile", "configs/digits.yaml", *words, *STEPS, *where, "--try", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    advice = {one["override"].partition("=")[0]: one for one in data["advice"]}
    assert advice["memory_format"]["seconds"] > 0 and data["seconds"] > 0 and "amp_args" not in advice


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "0"], "--steps must be at least 1"),
        (["--trace", "no/such/t.json"], "there is no folder"),
        (["modle.name=a"], "modle"),
    ],
)
def test_mistakes(words, told, capsys):
    assert main(["profile", "configs/digits.yaml", *words]) == 2
    assert told in capsys.readouterr().err
