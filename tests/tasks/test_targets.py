"""Tasks whose rows have several labels, or several targets to several heads."""

import copy
import json

import pytest
import torch
from PIL import Image

from ray_classy.distributed import get_world_size
from ray_classy.errors import CheckpointError, ConfigError, RayClassyError
from ray_classy.tasks import build_task
from ray_classy.tasks.classes import recorded_classes
from ray_classy.tasks.phase_state import phase_state
from tests.helpers import run_ranks, train

COLOURS = ["red", "blue", "blue", "red", "blue", "green", "blue", None]
TAGS = [["x"], [], ["x", "y"], ["y"], ["x"], [], ["x"], ["x"]]


@pytest.fixture
def folder(tmp_path):
    for number in range(8):
        Image.new("L", (4, 4), 30 * number).save(tmp_path / f"{number}.png")
    rows = zip(COLOURS, TAGS, strict=True)
    lines = [json.dumps({"path": f"{i}.png", "colour": colour, "tags": tags}) for i, (colour, tags) in enumerate(rows)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def head(name, **options):
    return {"name": "fully_connected", "unique_id": name, "fork_block": "mlp", "in_plane": 3, **options}


def config(folder, loss, heads, meters, **dataset):
    data = {"name": "manifest", "manifest": str(folder / "m.jsonl"), "image_mode": "L", "batchsize_per_replica": 4}
    return {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {kind: {**data, **dataset} for kind in ("train", "test")},
        "loss": loss,
        "model": {"name": "mlp", "input_dim": 16, "output_dim": 3, "hidden_dims": [], "heads": heads},
        "meters": meters,
        "optimizer": {"name": "sgd", "lr": 0.1},
        "use_gpu": False,
    }


def multi_label(folder, loss="BCEWithLogitsLoss", **options):
    loss = {"name": loss, **options}
    meters = {"f1": {"per_class": True}, "precision_at_k": {"topk": [1]}, "accuracy": {"topk": [1]}}
    return config(folder, loss, [head("default")], meters, label_column="tags")


def two_heads(folder, **options):
    loss = {
        "name": "multi_target",
        "losses": {"colour": {"name": "CrossEntropyLoss"}, "tags": {"name": "binary_cross_entropy"}},
        "weights": {"tags": 0.5},
        **options,
    }
    targets = {"colour": {"column": "colour", "optional": True}, "tags": "tags"}
    meters = {"colour/accuracy": {"topk": [1]}, "tags/f1": {"average": "macro"}}
    return config(folder, loss, [head("colour"), head("tags")], meters, targets=targets)


@pytest.mark.parametrize("loss", ["BCEWithLogitsLoss", "binary_cross_entropy", "focal", "asymmetric"])
def test_rows_with_several_labels_are_trained_and_measured(folder, loss):
    task = build_task(multi_label(folder, loss))
    task.preflight()
    train(task)
    assert task.phase_metrics()["f1"]["per_class"].keys() == {"x", "y"}
    assert task.phase_metrics()["loss"] > 0
    assert task.reported_metrics()[:3] == ["train.loss", "train.f1.per_class.x", "train.f1.per_class.y"]


def test_precision_and_recall_count_each_label_of_a_row(folder):
    meters = {"recall_at_k": {"topk": [1]}, "precision_at_k": {"topk": [1]}}
    task = train(build_task({**multi_label(folder), "meters": meters}))
    rows = [task.datasets["test"][number] for number in range(len(TAGS))]
    with torch.no_grad():
        best = task.base_model.eval()(torch.stack([row["input"] for row in rows])).argmax(1)
    hits = sum(int(row["target"][one]) for row, one in zip(rows, best, strict=True))
    metrics = task.phase_metrics()
    assert metrics["recall_at_k"]["top_1"] == pytest.approx(hits / sum(map(len, TAGS)))
    assert metrics["precision_at_k"]["top_1"] == pytest.approx(hits / len(TAGS))


def test_mixed_rows_and_class_indices_are_trained_with_binary_cross_entropy(folder):
    settings = multi_label(folder, "binary_cross_entropy", smoothing=0.1)
    for one in settings["dataset"].values():
        one.update(label_column="colour", manifest=str(folder / "whole.jsonl"))
    (folder / "whole.jsonl").write_text("\n".join((folder / "m.jsonl").read_text().splitlines()[:7]) + "\n")
    task = build_task({**settings, "mixup": {"alpha": 0.5, "num_classes": None}})  # as a resolved config has it
    assert task.mixup_transform.num_classes == 3
    task.preflight()
    assert train(task).phase_metrics()["loss"] > 0


def test_heads_have_the_classes_of_their_targets_which_checkpoints_record(folder):
    task = build_task(two_heads(folder))
    task.preflight()
    widths = {one.unique_id: one.num_classes for heads in task.base_model.get_heads().values() for one in heads}
    assert widths == {"colour": 3, "tags": 2}
    classes = {"colour": ["blue", "green", "red"], "tags": ["x", "y"]}
    assert recorded_classes(task.datasets)["target_classes"] == {"train": classes, "test": classes}


def test_each_head_is_measured_under_its_name(folder):
    task = train(build_task({**two_heads(folder), "mixup": {"alpha": 0.2}}))
    assert task.phase_metrics().keys() == {"loss", "colour/accuracy", "tags/f1"}
    assert "test.colour/accuracy.top_1" in task.reported_metrics()
    assert task.meters[0].get_classy_state()["meter"]["total_sample_count"].tolist() == [7]  # one has no colour


def test_classes_of_targets_are_matched_with_a_checkpoint(folder):
    task = build_task(two_heads(folder))
    record = {"target_classes": {"train": {"colour": ["red", "green", "blue"], "tags": ["y", "x"]}}}
    task.check_resume({"ray_classy": record})
    target = task.datasets["test"][2]["target"]
    assert target["colour"] == 2 and target["tags"].tolist() == [1, 1]
    assert task.datasets["train"][0]["target"]["tags"].tolist() == [0, 1]
    with pytest.raises(RayClassyError, match="target 'tags' of the train dataset does not have the classes"):
        task.check_resume({"ray_classy": {"target_classes": {"train": {"tags": ["y", "z"]}}}})


def test_labels_that_changed_are_another_order(folder):
    task = build_task(two_heads(folder))
    task.prepare()
    task.on_phase_start()
    task.train_step()
    state, content = phase_state(task), task.get_classy_state()
    state = copy.deepcopy({**content, "in_phase": state})
    resumed = build_task(two_heads(folder))._set_checkpoint_dict({"classy_state_dict": state})
    resumed.prepare()
    resumed.on_phase_start()
    assert resumed.meters[0].get_classy_state()["meter"]["total_sample_count"].tolist() == [4]
    text = (folder / "m.jsonl").read_text().replace('["x", "y"]', '["x"]')
    (folder / "m.jsonl").write_text(text)
    other = build_task(two_heads(folder))._set_checkpoint_dict({"classy_state_dict": state})
    other.prepare()
    with pytest.raises(CheckpointError, match="labels was"):
        other.on_phase_start()


def outcome(settings):
    for one in settings["dataset"].values():
        one["batchsize_per_replica"] = 4 // get_world_size()
    task = train(build_task({**settings, "num_epochs": 2}))
    weights = [value.tolist() for value in task.base_model.state_dict().values()]
    return {"weights": weights, "metrics": task.phase_metrics()}


def test_two_processes_train_and_measure_what_one_does(folder):
    settings = two_heads(folder)
    settings["meters"] |= {"tags/auroc": {}, "tags/recall_at_k": {"topk": [1]}}
    settings["dataset"]["train"]["num_samples"] = 7  # the last batch of one rank has one row, of the other two
    alone, [one, other] = outcome(copy.deepcopy(settings)), run_ranks(2, outcome, settings)
    assert one == other
    for meter in ("tags/auroc", "tags/recall_at_k"):
        assert one["metrics"][meter] == alone["metrics"][meter]
    assert one["metrics"]["colour/accuracy"] == alone["metrics"]["colour/accuracy"]
    assert one["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], rel=1e-5)
    for mine, theirs in zip(one["weights"], alone["weights"], strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs))


# -- weights that are counted -----------------------------------------------------------------------------------------


def test_balanced_weights_are_counted_once_and_stored_in_the_config(folder):
    balanced = {"colour": {"name": "CrossEntropyLoss", "weight": "balanced"}}
    balanced["tags"] = {"name": "binary_cross_entropy", "pos_weight": "balanced"}
    task = build_task(two_heads(folder, losses=balanced))
    stored = task.config["loss"]["losses"]
    assert stored["colour"]["weight"] == pytest.approx([7 / 12, 7 / 3, 7 / 6])  # 4, 1 and 2 of 7 rows
    assert stored["tags"]["pos_weight"] == pytest.approx([3 / 5, 6 / 2])  # 5 and 2 of 8 rows
    assert task.base_loss.losses["colour"].weight.tolist() == pytest.approx(stored["colour"]["weight"])
    task.check_resume({"ray_classy": {"target_classes": {"train": {"colour": ["red", "green", "blue"]}}}})
    assert task.base_loss.losses["colour"].weight.tolist() == pytest.approx([7 / 6, 7 / 3, 7 / 12])


def test_balanced_weights_of_one_target(folder):
    task = build_task(multi_label(folder, pos_weight="balanced"))
    assert task.base_loss.pos_weight.tolist() == pytest.approx([3 / 5, 6 / 2])
    with pytest.raises(ConfigError, match="one class per row"):
        build_task(multi_label(folder, "CrossEntropyLoss", weight="balanced"))
    with pytest.raises(ConfigError, match="counted in the train dataset, which there is not"):
        build_task({**multi_label(folder, pos_weight="balanced"), "test_only": True})


# -- names that do not match ------------------------------------------------------------------------------------------


def _renamed_head(settings):
    settings["model"]["heads"][1]["unique_id"] = "labels"


def _narrow_head(settings):
    settings["model"]["heads"][0]["num_classes"] = 2


def _one_loss(settings):
    settings["loss"] = {"name": "CrossEntropyLoss"}


def _meter_of_another(settings):
    settings["meters"] = {"size/accuracy": {"topk": [1]}}


def _no_targets(settings):
    for one in settings["dataset"].values():
        del one["targets"]
        one["label_column"] = "tags"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_renamed_head, "losses for colour, tags, and the heads are colour, labels"),
        (_narrow_head, "target 'colour' of the train dataset has 3 classes, but head 'colour' has 2 outputs"),
        (_one_loss, "several targets .colour, tags., which need loss multi_target"),
        (_meter_of_another, "measures the head 'size', and there is colour, tags"),
        (_no_targets, "the rows have one target"),
    ],
)
def test_names_that_do_not_match_are_found_by_the_dry_run(folder, change, message):
    settings = two_heads(folder)
    change(settings)
    with pytest.raises(RayClassyError, match=message):
        build_task(settings).preflight()


def test_a_meter_without_a_name_is_refused(folder):
    with pytest.raises(ConfigError, match="colour_f1"):
        build_task({**two_heads(folder), "meters": {"colour_f1": {}}})
