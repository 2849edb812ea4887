"""A head without num_classes takes that of the dataset."""

import copy
import logging

import pyarrow as pa
import pyarrow.parquet as pq

from ray_classy.tasks import build_task

DIGITS = {"name": "digits", "batchsize_per_replica": 32, "use_shuffle": False}
HEAD = {"name": "fully_connected", "unique_id": "head", "fork_block": "mlp", "in_plane": 4}


def config(head=HEAD, **changes):
    return {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {"train": {**DIGITS, "split": "train"}, "test": {**DIGITS, "split": "test"}},
        "model": {"name": "mlp", "input_dim": 64, "output_dim": 4, "hidden_dims": [], "heads": [head]},
        "loss": {"name": "CrossEntropyLoss"},
        "optimizer": {"name": "sgd"},
        **changes,
    }


def outputs(task):
    return task.base_model.get_heads()["mlp"][0].num_classes


def parquet(tmp_path, labels):
    pq.write_table(pa.table({"image": [[[[0, 0, 0]]]] * len(labels), "label": labels}), tmp_path / "rows.parquet")
    dataset = {"name": "parquet", "files": str(tmp_path / "rows.parquet"), "image_mode": "L"}
    return {"train": {**dataset, "batchsize_per_replica": 1, "use_shuffle": False}}


def test_a_head_without_num_classes_takes_the_datasets():
    assert outputs(build_task(config())) == 10


def test_null_counts_as_none_given():
    assert outputs(build_task(config({**HEAD, "num_classes": None}))) == 10


def test_a_given_num_classes_stays():
    assert outputs(build_task(config({**HEAD, "num_classes": 12}))) == 12


def test_an_evaluation_takes_that_of_the_test_dataset():
    assert outputs(build_task(config(dataset={"test": {**DIGITS, "split": "test"}}, test_only=True))) == 10


def test_unnamed_classes_count_up_to_the_largest_label(tmp_path):
    assert outputs(build_task(config(dataset=parquet(tmp_path, [0, 6, 2])))) == 7


def test_string_labels_count_as_often_as_they_differ(tmp_path):
    assert outputs(build_task(config(dataset=parquet(tmp_path, ["b", "a", "b"])))) == 2


def test_without_known_classes_the_head_has_no_linear_layer(tmp_path):
    dataset = parquet(tmp_path, [0])
    dataset["train"]["label_column"] = None
    assert outputs(build_task(config(dataset=dataset))) is None


def test_a_head_that_takes_no_num_classes_gets_none():
    task = build_task(config({"name": "identity", "unique_id": "head", "fork_block": "mlp"}))
    assert outputs(task) is None


def test_the_callers_config_stays_and_the_tasks_own_tells_the_number():
    given = config()
    before = copy.deepcopy(given)
    task = build_task(given)
    assert given == before
    assert task.config["model"]["heads"][0]["num_classes"] == 10


def test_the_number_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="ray_classy"):
        build_task(config())
    assert "model.heads.0.num_classes is 10, from the train dataset" in caplog.text
