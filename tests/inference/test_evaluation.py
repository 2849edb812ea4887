"""A run is evaluated from its checkpoint alone: on its own rows, or on others whose classes have the same names."""

import csv
import dataclasses

import numpy as np
import pytest

from ray_classy.errors import CheckpointError, ConfigError, DataError
from ray_classy.inference.evaluated_rows import evaluate_rows, together
from ray_classy.inference.evaluation import classifier_with, config_for, dataset_for, evaluate
from ray_classy.inference.trained import read_trained


@pytest.fixture(scope="module")
def trained(result):
    return read_trained(result.path)


@pytest.fixture(scope="module")
def own(trained):
    return evaluate(trained, config_for(trained))


@pytest.fixture(scope="module")
def class_folders(digits, tmp_path_factory):
    """The digits 3, 1 and 7 in folders of their class."""
    folder = tmp_path_factory.mktemp("folders")
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        if label in (1, 3, 7):
            (folder / str(label)).mkdir(exist_ok=True)
            image.convert("L").save(folder / str(label) / f"{number:03}.png")
    return folder


def test_the_accuracy_on_the_test_rows_is_that_of_the_run(own, trained):
    assert own.report.rows == 359
    assert own.report.accuracy == pytest.approx(trained.metrics["test"]["accuracy"]["top_1"], abs=1e-9)


def test_predict_and_evaluate_agree_on_each_row(own, model, digits):
    predicted = [int(one.label) for one in model.predict(digits[0])]
    assert predicted == own.rows.prediction.tolist()


@pytest.mark.parametrize("world_size", [2, 3])
def test_pieces_give_each_row_once_and_the_same_figures(own, trained, world_size):
    model, config = classifier_with(trained, False), config_for(trained)
    pieces = [evaluate_rows(model, dataset_for(config, model), 32, rank, world_size) for rank in range(world_size)]
    rows = together(pieces)[""]
    assert np.array_equal(rows.number, own.rows.number)
    assert np.array_equal(rows.label, own.rows.label)
    assert np.allclose(rows.scores, own.rows.scores, atol=1e-6)


def test_classes_of_other_data_are_matched_by_name(trained, class_folders, own):
    found = evaluate(trained, config_for(trained, str(class_folders)))
    wanted = np.isin(own.rows.label, [1, 3, 7])
    assert found.report.rows == wanted.sum()
    assert sorted(found.rows.label.tolist()) == sorted(own.rows.label[wanted].tolist())
    right = (own.rows.prediction == own.rows.label)[wanted]
    assert found.report.accuracy == pytest.approx(right.mean())


def test_the_progress_is_told(trained, class_folders):
    lines = []
    rows = evaluate(trained, config_for(trained, str(class_folders)), on_progress=lines.append).report.rows
    assert lines[0].startswith(f"32 of {rows} rows, ") and lines[-1].startswith(f"{rows} of {rows} rows, ")


def test_a_manifest_is_evaluated(trained, class_folders, tmp_path):
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "kind"])
        rows.writerows([path, path.parent.name] for path in sorted(class_folders.rglob("*.png")))
    options = {"label_column": "kind", "classes": [str(number) for number in range(10)]}
    found = evaluate(trained, config_for(trained, str(tmp_path / "rows.csv"), options))
    assert found.report.rows == len(list(class_folders.rglob("*.png")))
    assert found.names[0].endswith(".png")


def test_a_class_that_the_model_does_not_know_is_named(trained, class_folders, tmp_path):
    (tmp_path / "eleven").mkdir()
    source = next(iter(class_folders.rglob("*.png")))
    (tmp_path / "eleven" / "a.png").write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match="only in the data: \\['eleven'\\]"):
        evaluate(trained, config_for(trained, str(tmp_path)))


def test_images_of_another_mode_are_refused(trained, class_folders, tmp_path):
    (tmp_path / "rows.csv").write_text(f"path,label\n{next(iter(class_folders.rglob('*.png')))},3\n")
    options = {"image_mode": "L", "classes": [str(number) for number in range(10)]}
    with pytest.raises(ConfigError, match="the model takes images of mode 'RGB'"):
        evaluate(trained, config_for(trained, str(tmp_path / "rows.csv"), options))


def test_an_unknown_key_of_the_dataset_is_an_error(trained, class_folders):
    with pytest.raises(ConfigError, match="label_colum"):
        evaluate(trained, config_for(trained, str(class_folders), {"label_colum": "x"}))


def test_data_that_does_not_exist_is_an_error(trained):
    with pytest.raises(DataError, match="'nowhere' does not exist"):
        config_for(trained, "nowhere")


def test_mirror_images_count_if_asked_for(trained, own):
    flipped = evaluate(trained, config_for(trained), flip=True)
    assert not np.allclose(flipped.rows.scores, own.rows.scores)
    assert np.allclose(flipped.rows.scores.sum(axis=1), 1, atol=1e-5)


@pytest.mark.ray
@pytest.mark.full
def test_ray_workers_give_the_same_figures(trained, own, ray_cluster):
    found = evaluate(trained, config_for(trained), num_workers=2)
    assert np.array_equal(found.rows.number, own.rows.number)
    assert np.allclose(found.rows.scores, own.rows.scores, atol=1e-6)


def test_a_side_of_a_split_is_evaluated_under_the_rule_of_the_run_alone(trained, class_folders):
    train = {**trained.config["dataset"]["test"], "name": "image_path", "image_folder": str(class_folders)}
    train = {key: value for key, value in train.items() if key not in ("split", "image_mode")}
    dataset = {"split": {"test": 0.5}, "train": train, "test": {"transforms": train["transforms"]}}
    split = dataclasses.replace(trained, config={**trained.config, "dataset": dataset})
    found = evaluate(split, config_for(split))
    side = dataset_for(config_for(split), classifier_with(split, False))
    assert 0 < found.report.rows == len(side) < len(list(class_folders.rglob("*.png")))
    assert found.names == [row["path"] for row in side.dataset.take(range(len(side)))]
    record = {**side.split_rows.record(), "rule": {**side.split_rows.split.rule(), "seed": 1}}
    with pytest.raises(CheckpointError, match="was trained with another split"):
        evaluate(dataclasses.replace(split, split=record), config_for(split))
