"""A task whose model starts from pretrained weights of another library."""

import copy
import os

import PIL.Image
import pytest
import torch
import torchvision

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import CheckpointError, CheckpointNotFoundError, ConfigError, TaskError
from ray_classy.tasks import build_task
from ray_classy.tasks.build import draft_task
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.shipping import pickled
from tests.helpers import equal_weights, weights

_PREPROCESSING = {"name": "model_preprocessing", "size": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of images of three classes, and a file of weights."""
    folder = tmp_path_factory.mktemp("images")
    for index, name in enumerate(("cat", "dog", "owl")):
        (folder / "data" / name).mkdir(parents=True)
        for shade in (60, 120):
            PIL.Image.new("RGB", (40, 36), (shade, 80 * index, 40)).save(folder / "data" / name / f"{shade}.png")
    torch.manual_seed(1)
    torch.save(torchvision.models.squeezenet1_1(num_classes=5).state_dict(), folder / "weights.pth")
    return folder


def config(folder, name="fine_tuning", **changes):
    data = {
        "name": "image_path",
        "image_folder": str(folder / "data"),
        "batchsize_per_replica": 3,
        "transforms": [
            {"name": "tuple_to_map", "list_of_map_keys": ["input", "target"]},
            {"name": "apply_transform_to_key", "key": "input", "transforms": [_PREPROCESSING]},
        ],
    }
    return {
        "name": name,
        "num_epochs": 2,
        "dataset": {"train": data, "test": copy.deepcopy(data)},
        "model": model(folder),
        "loss": {"name": "CrossEntropyLoss"},
        "optimizer": {"name": "sgd", "lr": 0.01},
        **changes,
    }


def model(folder, **changes):
    return {"name": "torchvision", "model": "squeezenet1_1", "weights": str(folder / "weights.pth"), **changes}


def stem(task):
    return task.base_model.model.features[0].weight


@pytest.mark.parametrize("name", ["fine_tuning", "classification_task"])
def test_the_weights_are_loaded_before_the_task_is_sent_to_workers(folder, name):
    task = build_task(config(folder, name))
    before = stem(task).clone()
    task.preflight()
    given = torch.load(folder / "weights.pth", weights_only=True)["features.0.weight"]
    assert torch.equal(stem(task), given) and not torch.equal(before, given)
    assert len(pickled(task)) < 2 * sum(value.nbytes for value in task.base_model.state_dict().values())


def test_the_classifier_has_the_classes_of_the_data(folder):
    task = build_task(config(folder))
    assert task.base_model.num_classes == task.config["model"]["num_classes"] == 3
    assert "train labels: 3 labels, 3 outputs" in task.data_notes()


@pytest.mark.parametrize("frozen", [{"freeze": ["features.*"]}, {"freeze_trunk": True}])
def test_a_frozen_trunk_leaves_the_classifier_to_train(folder, frozen):
    task = build_task(config(folder, **frozen))
    task.prepare()
    trained = [name for name, parameter in task.base_model.named_parameters() if parameter.requires_grad]
    assert trained == ["model.classifier.1.weight", "model.classifier.1.bias"]


@pytest.fixture(scope="module")
def run(folder):
    """A task after a run, and the run's result."""
    task = build_task(config(folder))
    return task, LocalTrainer(str(folder), "run").train(task)


def test_a_run_resumes_with_equal_bits_without_the_file_of_weights(folder, run, tmp_path):
    whole, result = run
    content = load_checkpoint(os.path.join(result.path, "epoch_0001-step_000002"))
    half = build_task(config(folder, model=model(folder, weights="gone/weights.pth")))._set_checkpoint_dict(content)
    LocalTrainer(str(tmp_path), "half").train(half)
    assert equal_weights(weights(whole), weights(half))


def test_the_log_of_a_run_says_what_was_loaded(run):
    with open(os.path.join(run[1].path, "log.txt")) as file:
        text = file.read()
    assert "loaded       50 of 52 entries of squeezenet1_1" in text and "new          2" in text


def test_a_checkpoint_keeps_the_transforms_that_the_preprocessing_was(run):
    written = load_checkpoint(run[1].checkpoint)["ray_classy"]["config"]["dataset"]
    names = {kind: [one["name"] for one in written[kind]["transforms"][1]["transforms"]] for kind in written}
    assert names == {
        "train": ["RandomResizedCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"],
        "test": ["Resize", "CenterCrop", "ToTensor", "Normalize"],
    }


def test_a_draft_does_not_download(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("downloads"))
    task, _ = draft_task(config(folder, model=model(folder, weights="DEFAULT")), 1, False)
    assert task.weights_note()[0].startswith(
        "weights: SqueezeNet1_1_Weights.IMAGENET1K_V1 of torchvision will be downloaded from https://"
    )


def test_a_draft_tries_the_weights_that_are_here(folder):
    with pytest.raises(CheckpointError, match="does not fit squeezenet1_0"):
        draft_task(config(folder, model=model(folder, model="squeezenet1_0")), 1, False)


def test_a_missing_file_is_an_error_before_anything_starts(folder, tmp_path):
    task = build_task(config(folder, model=model(folder, weights=str(tmp_path / "gone.pth"))))
    with pytest.raises(CheckpointNotFoundError, match=r"gone\.pth"):
        LocalTrainer(str(tmp_path / "runs")).train(task)
    assert not (tmp_path / "runs").exists()


def test_two_sources_of_weights_are_refused(folder):
    task = build_task(config(folder, pretrained_checkpoint="runs/other"))
    with pytest.raises(TaskError, match="leave out one"):
        task.preflight()


def test_images_of_a_size_that_the_network_does_not_take_are_found(folder):
    pytest.importorskip("timm")
    model = {"name": "timm", "model": "test_vit", "dynamic_img_size": False}
    wrong = config(folder, "classification_task", model=model)
    with pytest.raises(TaskError, match=r"Input height \(32\) doesn't match model \(160\)"):
        draft_task(wrong, 1, False)


def test_a_wrong_option_of_the_network_is_reported_with_its_place(folder):
    with pytest.raises(ConfigError, match=r"model\.dropuot: unknown key; did you mean 'dropout'"):
        build_task(config(folder, model=model(folder, dropuot=0.1)))
