"""`ray-classy evaluate`: a report to read, or as JSON, and a file of rows."""

import json

import numpy as np
import pyarrow.parquet
import pytest

from ray_classy.cli.evaluate import _lines
from ray_classy.cli.main import main
from ray_classy.inference.evaluated_rows import EvaluatedRows
from ray_classy.inference.report import report_of
from tests.inference.conftest import result  # noqa: F401 (a fixture)


@pytest.fixture
def printed(result, tmp_path, capsys):  # noqa: F811
    assert main(["evaluate", result.path, "--predictions", str(tmp_path / "rows.parquet")]) == 0
    return capsys.readouterr().out


def test_the_report_has_the_accuracy_with_an_interval_and_each_class(printed):
    assert "rows          359" in printed and "95 % interval" in printed and "\ncross-entropy " in printed
    assert len([line for line in printed.splitlines() if line[:1].isdigit()]) == 10


def test_a_bootstrap_interval_without_width_is_left_out():
    label = np.arange(40) % 2
    report = report_of(EvaluatedRows(np.arange(40), label, np.eye(2, dtype=np.float32)[label]), ["a", "b"])
    assert "macro F1      1.0000" in _lines(report)


def test_the_file_has_each_row(printed, tmp_path):
    rows = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(rows) == 359
    assert max(rows[0]["scores"]) == rows[0]["score"]


def test_json_has_all_figures(result, capsys):  # noqa: F811
    assert main(["evaluate", result.path, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["rows"] == 359 and len(data["confusion_matrix"]) == 10 and len(data["classes"]) == 10


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "evaluate takes a run or checkpoint"),
        (["RUN", "--predictions", "rows.csv"], "written to a .parquet file"),
        (["RUN", "--predictions", "README.parquet/x.csv"], "written to a .parquet file"),
        (["RUN", "--num-workers", "-1"], "--num-workers must be at least 0, not -1"),
        (["RUN", "--batch-size", "0"], "batch_size must be an integer of at least 1"),
    ],
)
def test_a_mistake_is_one_line(result, words, text, capsys):  # noqa: F811
    assert main(["evaluate", *[result.path if word == "RUN" else word for word in words]]) != 0
    assert text in capsys.readouterr().err
