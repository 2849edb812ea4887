import json
import shutil

import pytest

from ray_classy.cli.main import main
from tests.data.record import RECORDED


@pytest.fixture
def pair(tmp_path):
    """A run, and a copy with another learning rate, another torch and another result."""
    for name in ("one", "two"):
        shutil.copytree(RECORDED / "finished", tmp_path / name, symlinks=True)
    config, record, metrics = (tmp_path / "two" / name for name in ("config.yaml", "run.json", "metrics.jsonl"))
    config.write_text(
        config.read_text().replace("start_value: 0.05", "start_value: 0.5") + "of_a_later_version: null\n"
    )
    record.write_text(record.read_text().replace("2.14.1", "2.15.0"))
    *lines, last = map(json.loads, metrics.read_text().splitlines())
    last["metrics"]["accuracy"]["top_1"] = 0.5
    metrics.write_text("".join(json.dumps(line) + "\n" for line in [*lines, last]))
    return [str(tmp_path / "one"), str(tmp_path / "two")]


def test_what_differs_is_printed(pair, capsys):
    assert main(["compare", *pair]) == 0
    out = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in out]
    assert ["optimizer.param_schedulers.lr.start_value", "0.05", "0.5"] in rows
    assert ["torch", "2.14.1+cu130", "2.15.0+cu130"] in rows and not any("momentum" in line for line in out)
    final, best = (line for line in out if line.startswith("test.accuracy.top_1"))
    assert "0.5000 (-" in final and "0.5000" not in best


def test_for_programs(pair, capsys):
    assert main(["compare", *pair, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["config"] == {"optimizer.param_schedulers.lr.start_value": [0.05, 0.5]}
    first, second = data["final"]["test.accuracy.top_1"]["values"]
    assert data["final"]["test.accuracy.top_1"]["difference"] == [0.0, second - first] and second == 0.5


def test_equal_runs_have_no_difference(pair, capsys):
    assert main(["compare", pair[0], pair[0]]) == 0
    out = capsys.readouterr().out
    assert "config: no difference" in out and "versions and code: no difference" in out


def test_two_runs_are_needed(pair, capsys):
    assert main(["compare", pair[0]]) == 2
    assert main(["compare", pair[0], f"{pair[1]}x"]) == 1 and "did you mean 'two'?" in capsys.readouterr().err
