import os
import shutil
from types import SimpleNamespace

import pytest

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import ConfigError
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import make_task

SCORES = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9, "e": 0.2}
METRICS = {name: {"test.loss": 1 - score, "test.accuracy.top_1": score} for name, score in SCORES.items()}


def test_everything_stays_if_nothing_is_said():
    assert Retention().superfluous(METRICS) == []


def test_without_a_metric_the_newest_stay():
    assert Retention(2).superfluous(METRICS) == ["a", "b", "c"]


def test_with_a_metric_the_best_stay_and_the_newest():
    assert Retention(2, "test.accuracy.top_1").superfluous(METRICS) == ["a", "c"]
    assert Retention(1, "test.loss", "min").superfluous(METRICS) == ["a", "c", "d"]


def test_the_best_of_equals_is_the_first():
    assert Retention(metric="test.accuracy.top_1").best(METRICS) == "b"
    assert Retention(metric="test.accuracy.top_1", order="min").best(METRICS) == "a"


def test_the_best_goes_by_a_meter_if_nothing_is_said():
    assert Retention().best(METRICS) == "b"
    assert Retention().best({name: {"train.loss": score} for name, score in SCORES.items()}) == "a"


def test_what_has_no_number_is_never_the_best():
    metrics = {"a": {"test.loss": float("nan")}, "b": {"test.loss": 2.0}, "c": {}, "d": {"test.loss": None}}
    assert Retention(metric="test.loss", order="min").best(metrics) == "b"
    assert Retention().best({}) is None


def test_fields_of_rays_config_object():
    fields = SimpleNamespace(num_to_keep=3, checkpoint_score_attribute="test.loss", checkpoint_score_order="min")
    assert Retention.of(fields) == Retention(3, "test.loss", "min")
    assert Retention.of(vars(fields)) == Retention(3, "test.loss", "min")
    assert Retention.of(None) == Retention()


def test_a_metric_that_is_not_reported_is_refused():
    with pytest.raises(
        ConfigError, match=r"no metric named 'test.accurac.top_1' is reported: did you mean 'test.accuracy.top_1'"
    ):
        Retention(metric="test.accurac.top_1").check(make_task().reported_metrics())


def kept(path):
    return sorted(name for name in os.listdir(path) if name.startswith("epoch"))


@pytest.fixture
def config():
    phase = {"name": "synthetic_image", "num_classes": 2, "crop_size": 4, "class_ratio": 0.5, "num_samples": 8}
    phase |= {"seed": 0, "batchsize_per_replica": 4, "use_shuffle": False}
    return {
        "name": "classification_task",
        "num_epochs": 4,
        "dataset": {"train": phase, "test": phase},
        "model": {"name": "mlp", "input_dim": 48, "output_dim": 2, "hidden_dims": [4]},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "lr": 0.01},
    }


def test_a_run_keeps_the_last_checkpoints(config, tmp_path):
    config["ray"] = {"num_to_keep": 2}
    result = LocalTrainer(str(tmp_path), "a").train(build_task(config))
    assert kept(result.path) == ["epoch_0003-step_000006", "epoch_0004-step_000008"]


def test_names_that_stay_stand_for_checkpoints(config, tmp_path):
    config["ray"] = {"checkpoint_score_attribute": "train.loss", "checkpoint_score_order": "max"}
    result = LocalTrainer(str(tmp_path), "a").train(build_task(config))
    assert result.best_checkpoint == f"{result.path}/epoch_0001-step_000002"
    assert os.readlink(f"{result.path}/best") == "epoch_0001-step_000002"
    assert load_checkpoint(f"{result.path}/best")["classy_state_dict"]["train_phase_idx"] == 0
    assert load_checkpoint(f"{result.path}/last")["classy_state_dict"]["train_phase_idx"] == 3


def test_a_resumed_run_goes_on_keeping_the_best(config, tmp_path):
    config["ray"] = {
        "num_to_keep": 1,
        "checkpoint_score_attribute": "train.loss",
        "checkpoint_score_order": "max",
    }
    result = LocalTrainer(str(tmp_path), "a").train(build_task(config))
    result = LocalTrainer(resume=result.path).train(build_task({**config, "num_epochs": 6}))
    assert kept(result.path) == ["epoch_0001-step_000002", "epoch_0006-step_000012"]
    assert result.best_checkpoint == f"{result.path}/epoch_0001-step_000002"


def test_a_metric_of_the_config_that_is_not_reported_has_its_place(config, tmp_path):
    config["ray"] = {"checkpoint_score_attribute": "test.top_1"}
    with pytest.raises(ConfigError, match=r"ray.checkpoint_score_attribute: no metric named 'test.top_1' is reported"):
        LocalTrainer(str(tmp_path), "a").train(build_task(config))
    assert not os.listdir(tmp_path)


def test_without_links_the_names_are_files(config, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "symlink", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    result = LocalTrainer(str(tmp_path), "a").train(build_task(config))
    assert os.path.isfile(f"{result.path}/last")
    assert load_checkpoint(f"{result.path}/last")["classy_state_dict"]["train_phase_idx"] == 3
    assert RunFolder(result.path).checkpoints.best() == result.best_checkpoint


def test_names_that_stay_in_a_store(config, s3):
    result = LocalTrainer(s3.url("runs"), "a").train(build_task(config))
    last = result.checkpoint.replace("epoch_0004-step_000008", "last")
    assert load_checkpoint(last)["classy_state_dict"]["train_phase_idx"] == 3
    assert "epoch_" in result.best_checkpoint


def test_a_folder_that_has_the_name_of_a_pointer_is_kept_aside(tmp_path, caplog):
    first = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=1))
    for pointer in ("last", "best"):  # as a copy that follows links leaves them
        os.unlink(f"{first.path}/{pointer}")
        shutil.copytree(first.checkpoint, f"{first.path}/{pointer}")
    result = LocalTrainer(resume=first.path).train(make_task(epochs=4))
    assert len(result.metrics_history) == 8 and result.checkpoint.endswith("epoch_0004-step_000024")
    assert caplog.text.count("last was a folder, as in a copy that follows links: renamed to last.copied") == 1
    assert os.path.isdir(f"{first.path}/last.copied") and os.path.islink(f"{first.path}/last")
