"""Models with several labels or several targets: evaluated and used for predictions as the run measures them."""

import json

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from ray_classy import load_model
from ray_classy.cli.main import main
from ray_classy.errors import ConfigError
from ray_classy.inference.evaluated_rows import together
from ray_classy.inference.evaluation import classifier_with, config_for, dataset_for, evaluate, evaluate_rows
from ray_classy.inference.inputs import inputs_in, rows_of
from ray_classy.inference.predict import predict_files
from ray_classy.inference.trained import read_trained
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.helpers import free_port

TAGS = ["calm", "dark", "red", "old"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty images with tags, a colour that some of them lack, and columns of 0 and 1."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = []
    for number in range(60):
        pixels = random.integers(0, 256, (4, 4), np.uint8)
        Image.fromarray(pixels, "L").save(folder / f"{number:02}.png")
        tags = [tag for tag, value in zip(TAGS, pixels.ravel(), strict=False) if value > 150]
        colour = None if number % 7 == 3 else ["blue", "green", "white"][int(pixels[2, 2]) // 86]
        lines.append(json.dumps({"path": f"{number:02}.png", "tags": tags, "colour": colour}))
    (folder / "m.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def head(name, number=None):
    return {"name": "fully_connected", "unique_id": name, "fork_block": "mlp", "in_plane": 16, "num_classes": number}


def trained_on(folder, loss, heads, meters, **dataset):
    data = {"name": "manifest", "manifest": str(folder / "m.jsonl"), "image_mode": "L", "batchsize_per_replica": 8}
    config = {
        "name": "classification_task",
        "num_epochs": 2,
        "seed": 1,
        "dataset": {kind: {**data, **dataset} for kind in ("train", "test")},
        "loss": loss,
        "model": {"name": "mlp", "input_dim": 16, "output_dim": 16, "hidden_dims": [], "heads": heads},
        "meters": meters,
        "optimizer": {"name": "sgd", "lr": 0.5},
        "use_gpu": False,
    }
    result = LocalTrainer(storage_path=str(folder / "runs")).train(build_task(config))
    return read_trained(result.path)


@pytest.fixture(scope="module")
def tagged(folder):
    """A run with several labels per row."""
    meters = {
        "f1": {"average": "macro", "per_class": True},
        "average_precision": {"average": "macro", "per_class": True},
        "micro": {"name": "f1", "average": "micro"},
        "exact": {"name": "torchmetrics", "metric": "ExactMatch"},
    }
    return trained_on(folder, {"name": "BCEWithLogitsLoss"}, [head("default")], meters, label_column="tags")


@pytest.fixture(scope="module")
def several(folder):
    """A run with two targets."""
    losses = {"colour": {"name": "CrossEntropyLoss"}, "tags": {"name": "binary_cross_entropy"}}
    targets = {"colour": {"column": "colour", "optional": True}, "tags": "tags"}
    meters = {
        "colour/accuracy": {"topk": [1]},
        "colour/f1": {"average": "macro"},
        "tags/average_precision": {"average": "macro"},
    }
    loss = {"name": "multi_target", "losses": losses}
    return trained_on(folder, loss, [head("colour"), head("tags")], meters, targets=targets)


def test_figures_of_several_labels_are_those_of_the_runs_meters(tagged):
    report, metrics = evaluate(tagged, config_for(tagged)).report, tagged.metrics["test"]
    assert report.averages()["macro"]["f1"] == pytest.approx(metrics["f1"]["macro"], abs=1e-6)
    assert report.averages()["micro"]["f1"] == pytest.approx(metrics["micro"]["micro"], abs=1e-6)
    assert report.subset_accuracy == pytest.approx(metrics["exact"]["value"], abs=1e-6)
    assert report.mean_average_precision == pytest.approx(metrics["average_precision"]["macro"], abs=1e-6)
    assert report.loss == pytest.approx(metrics["loss"], abs=1e-6)
    for one in report.per_class():
        assert one["f1"] == pytest.approx(metrics["f1"]["per_class"][one["class"]], abs=1e-6)
        wanted = metrics["average_precision"]["per_class"][one["class"]]
        assert one["average_precision"] == pytest.approx(wanted, abs=1e-6)


def test_each_of_several_targets_has_the_figures_of_the_runs_meters(several):
    found, metrics = evaluate(several, config_for(several)).targets, several.metrics["test"]
    colour, tags = found["colour"].report, found["tags"].report
    assert (colour.rows, colour.unlabelled, tags.rows) == (51, 9, 60)
    assert colour.accuracy == pytest.approx(metrics["colour/accuracy"]["top_1"], abs=1e-9)
    assert colour.averages()["macro"]["f1"] == pytest.approx(metrics["colour/f1"]["macro"], abs=1e-6)
    assert tags.mean_average_precision == pytest.approx(metrics["tags/average_precision"]["macro"], abs=1e-6)


def test_pieces_of_several_targets_are_put_together(several):
    model, config = classifier_with(several, False), config_for(several)
    whole = evaluate_rows(model, dataset_for(config, model), 8)
    pieces = [evaluate_rows(model, dataset_for(config, model), 8, rank, 2) for rank in range(2)]
    for target, rows in together(pieces).items():
        assert np.array_equal(rows.label, whole[target].label)
        assert np.allclose(rows.scores, whole[target].scores, atol=1e-6)


def test_labels_of_other_data_are_matched_by_name(tagged, folder, tmp_path):
    lines = [json.loads(line) for line in (folder / "m.jsonl").read_text().splitlines()]
    rows = [f"{folder}/{line['path']};{'|'.join(tag for tag in line['tags'] if tag != 'calm')}" for line in lines]
    (tmp_path / "rows.csv").write_text("path;words\n" + "\n".join(rows) + "\n")
    options = {"label_column": "words", "label_separator": "|"}
    found = evaluate(tagged, config_for(tagged, str(tmp_path / "rows.csv"), options)).rows
    own = evaluate(tagged, config_for(tagged)).rows
    assert np.array_equal(found.label[:, 1:], own.label[:, 1:]) and not found.label[:, 0].any()


def test_data_without_a_target_of_the_model_is_an_error(several, folder):
    options = {"targets": {"tags": "tags"}}
    with pytest.raises(ConfigError, match="trained on the targets colour, tags, and the data has tags"):
        dataset_for(config_for(several, str(folder / "m.jsonl"), options), classifier_with(several, False))


@pytest.mark.parametrize("kind", ["tagged", "several"])
def test_predictions_of_the_same_rows_give_the_same_counts(kind, request, folder, tmp_path):
    trained = request.getfixturevalue(kind)
    model = load_model(trained.path)
    images = rows_of(inputs_in([str(folder / "m.jsonl")])[0], model.preprocessing)
    done = predict_files(model, images, str(tmp_path / "p.parquet"))
    rows = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    for target, one in evaluate(trained, config_for(trained)).targets.items():
        start = f"{target}/" if target else ""
        if one.rows.label.ndim == 1:
            assert [row[f"{start}prediction"] for row in rows] == [one.classes[at] for at in one.rows.prediction]
        else:
            above = [{one.classes[at] for at in np.flatnonzero(row > 0.5)} for row in one.rows.scores]
            assert [{label["label"] for label in row[f"{start}labels"]} for row in rows] == above
            assert done.counts[target].total() == (one.rows.scores > 0.5).sum()


def test_a_threshold_decides_what_is_a_label(tagged, folder):
    model = load_model(tagged.path)
    ((_, scores),) = model.scores([str(folder / "00.png")])
    (none,), (every,) = model.predictions(scores, threshold=0.999), model.predictions(scores, threshold=0)
    assert none.labels == [] and len(every.labels) == len(TAGS) and every.label == none.label


def test_the_commands_name_labels_and_targets(tagged, several, folder, tmp_path, capsys):
    assert main(["evaluate", several.path, "--predictions", str(tmp_path / "rows.parquet")]) == 0
    printed = capsys.readouterr().out
    assert "target        colour" in printed and "mAP" in printed and "and 9 without a label" in printed
    rows = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert rows[3]["colour/label"] is None and isinstance(rows[3]["tags/label"], list)
    assert main(["predict", several.path, str(folder / "00.png")]) == 0
    assert "colour: " in capsys.readouterr().out
    assert main(["evaluate", tagged.path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == 0.5


def test_serve_refuses_a_model_of_several_targets_before_ray_is_started(several, capsys):
    pytest.importorskip("fastapi")
    assert main(["serve", several.path, "--port", str(free_port())]) == 1
    assert "the model has several targets (colour, tags), and a service answers for one" in capsys.readouterr().err
