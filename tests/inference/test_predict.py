"""Predictions of many files: a row for each, once, also after an interrupt."""

import copy
import csv
import dataclasses
import io
import json
import os

import pyarrow.parquet
import pytest

from ray_classy.errors import (
    CheckpointNotFoundError,
    ComponentError,
    RecordError,
    ResourceError,
    RunFolderError,
    WorkerDiedError,
)
from ray_classy.inference import prediction_parts
from ray_classy.inference.inputs import inputs_in
from ray_classy.inference.inputs import rows_of as rows_of_inputs
from ray_classy.inference.predict import predict_files


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(prediction_parts, "PART_IMAGES", 8)


@pytest.fixture
def paths(folder):
    return inputs_in([str(folder)])[0][0].files


def rows_of(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_each_image_has_a_row(model, paths, tmp_path, suffix):
    done = predict_files(model, paths, str(tmp_path / f"p{suffix}"))
    rows = rows_of(tmp_path / f"p{suffix}")
    assert [row["path"] for row in rows] == paths
    assert [row["prediction"] for row in rows[:20]] == [one.label for one in model.predict(paths[:20])]
    assert rows[20]["prediction"] in (None, "") and "20.png" in rows[20]["error"]
    assert (done.images, done.bad, done.counts[""].total()) == (21, 1, 20)
    assert list(tmp_path.iterdir()) == [tmp_path / f"p{suffix}"]


class Dying:
    def __call__(self, sample):
        os._exit(1)


def with_preprocessing(model, preprocessing):
    other = copy.copy(model)
    other.preprocessing = preprocessing
    return other


class Stopped(Exception):
    pass


def stop_after_two_parts(output):
    def told(line):
        if len(list(output.with_name(f"{output.name}.parts").glob("part-*"))) == 2:  # of any images
            raise Stopped

    return told


def test_an_interrupted_call_goes_on_where_it_was(model, paths, tmp_path):
    whole, output, lines = tmp_path / "whole.jsonl", tmp_path / "p.jsonl", []
    predict_files(model, paths, str(whole))
    with pytest.raises(Stopped):
        predict_files(model, paths, str(output), on_progress=stop_after_two_parts(output))
    assert not output.exists()
    predict_files(model, paths, str(output), on_progress=lines.append)
    assert lines[0] == "2 of 3 parts are there already" and lines[1].startswith("5 of 5 images")
    assert output.read_text() == whole.read_text()


def test_the_progress_within_a_part_is_told(model, paths, tmp_path):
    lines = []
    predict_files(model, paths, str(tmp_path / "p.csv"), batch_size=3, on_progress=lines.append)
    assert [line.split(" of ")[0] for line in lines] == ["3", "6", "8", "11", "14", "16", "19", "21"]


def test_the_parts_of_other_predictions_are_refused(model, paths, tmp_path):
    with pytest.raises(Stopped):
        predict_files(model, paths, str(tmp_path / "p.csv"), on_progress=stop_after_two_parts(tmp_path / "p.csv"))
    with pytest.raises(RunFolderError, match=r"part of other predictions \(topk differs\)"):
        predict_files(model, paths, str(tmp_path / "p.csv"), topk=2)


def test_a_damaged_part_is_named(model, paths, tmp_path):
    with pytest.raises(Stopped):
        predict_files(model, paths, str(tmp_path / "p.csv"), on_progress=stop_after_two_parts(tmp_path / "p.csv"))
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


def test_rows_of_a_table_have_their_ids(model, digits, tmp_path):
    images = [io.BytesIO() for _ in range(3)]
    for image, file in zip(digits[0], images, strict=False):
        image.save(file, "PNG")
    table = {"image": [file.getvalue() for file in images], "key": ["a", "b", "c"]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    rows = rows_of_inputs(inputs_in([str(tmp_path / "rows.parquet")])[0], model.preprocessing, None, "key")
    predict_files(model, rows, str(tmp_path / "p.parquet"))
    found = rows_of(tmp_path / "p.parquet")
    assert [(row["id"], row["prediction"]) for row in found] == [
        (key, one.label) for key, one in zip("abc", model.predict(digits[0][:3]), strict=True)
    ]


@pytest.mark.ray
@pytest.mark.full
def test_ray_workers_give_the_same_file_also_after_an_interrupt(model, paths, tmp_path, ray_cluster, recwarn):
    lines, two = [], tmp_path / "two.jsonl"
    predict_files(model, paths, str(tmp_path / "one.jsonl"), batch_size=3)
    with pytest.raises(Stopped):
        predict_files(model, paths, str(two), batch_size=3, on_progress=stop_after_two_parts(two), num_workers=2)
    predict_files(model, paths, str(two), batch_size=3, on_progress=lines.append, num_workers=2)
    assert lines[0] == "2 of 3 parts are there already"
    assert two.read_text() == (tmp_path / "one.jsonl").read_text()
    assert not [str(one.message) for one in recwarn if "ray_remote_args" in str(one.message)]


@pytest.mark.ray
@pytest.mark.full
def test_a_worker_that_cannot_predict_ends_with_its_error(model, paths, tmp_path, ray_cluster, monkeypatch):
    monkeypatch.setattr(model, "path", str(tmp_path / "removed"))
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint at"):
        predict_files(model, paths, str(tmp_path / "p.jsonl"), num_workers=1)


@pytest.mark.ray
@pytest.mark.full
def test_a_worker_that_dies_again_and_again_ends_with_an_error(model, paths, tmp_path, ray_cluster):
    dying = dataclasses.replace(model.preprocessing, transform=Dying())
    with pytest.raises(WorkerDiedError, match="has died 4 times"):
        predict_files(with_preprocessing(model, dying), paths, str(tmp_path / "p.jsonl"), num_workers=1)


@pytest.mark.ray
@pytest.mark.full
def test_more_workers_than_the_cluster_has_room_for_are_refused(model, paths, tmp_path, ray_cluster):
    with pytest.raises(ResourceError, match="the cluster has 4 CPU: lower --num-workers"):
        predict_files(model, paths, str(tmp_path / "p.jsonl"), batch_size=1, num_workers=16)
