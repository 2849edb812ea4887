"""Predictions of many files: a row for each, once, also after an interrupt."""

import csv
import json

import pyarrow.parquet
import pytest

from ray_classy.errors import ComponentError, RecordError, RunFolderError
from ray_classy.inference import prediction_parts
from ray_classy.inference.inputs import images_in
from ray_classy.inference.predict import predict_files


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(prediction_parts, "PART_IMAGES", 8)


@pytest.fixture
def paths(folder):
    return images_in([str(folder)])[0]


def rows_of(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_each_image_has_a_row(model, paths, tmp_path, suffix):
    counts = predict_files(model, paths, str(tmp_path / f"p{suffix}"))
    rows = rows_of(tmp_path / f"p{suffix}")
    assert [row["path"] for row in rows] == paths
    assert [row["prediction"] for row in rows[:20]] == [one.label for one in model.predict(paths[:20])]
    assert rows[20]["prediction"] in (None, "") and "20.png" in rows[20]["error"]
    assert counts.total() == 21 and counts[""] == 1
    assert list(tmp_path.iterdir()) == [tmp_path / f"p{suffix}"]


class Stopped(Exception):
    pass


def stop_after(lines):
    def told(line):
        lines.append(line)
        if "of" in line and line.startswith("16"):
            raise Stopped

    return told


def test_an_interrupted_call_goes_on_where_it_was(model, paths, tmp_path):
    whole, output, lines = tmp_path / "whole.jsonl", tmp_path / "p.jsonl", []
    predict_files(model, paths, str(whole))
    with pytest.raises(Stopped):
        predict_files(model, paths, str(output), told=stop_after([]))
    assert not output.exists()
    predict_files(model, paths, str(output), told=lines.append)
    assert lines[0] == "2 of 3 parts are there already" and lines[1].startswith("5 of 5 images")
    assert output.read_text() == whole.read_text()


def test_the_parts_of_other_predictions_are_refused(model, paths, tmp_path):
    with pytest.raises(Stopped):
        predict_files(model, paths, str(tmp_path / "p.csv"), told=stop_after([]))
    with pytest.raises(RunFolderError, match=r"part of other predictions \(topk differs\)"):
        predict_files(model, paths, str(tmp_path / "p.csv"), topk=2)


def test_a_damaged_part_is_named(model, paths, tmp_path):
    with pytest.raises(Stopped):
        predict_files(model, paths, str(tmp_path / "p.csv"), told=stop_after([]))
    (tmp_path / "p.csv.parts" / "part-000001.jsonl").write_text('{"path": 3}\n')
    with pytest.raises(RecordError, match=r"part-000001\.jsonl"):
        predict_files(model, paths, str(tmp_path / "p.csv"))


def test_a_file_that_exists_is_left_alone(model, paths, tmp_path):
    (tmp_path / "p.csv").write_text("mine")
    with pytest.raises(RunFolderError, match=r"exists: remove it, or give another --output"):
        predict_files(model, paths, str(tmp_path / "p.csv"))


def test_another_suffix_is_refused(model, paths, tmp_path):
    with pytest.raises(ComponentError, match=r"end in \.parquet, \.csv, \.jsonl, not '\.txt'"):
        predict_files(model, paths, str(tmp_path / "p.txt"))
