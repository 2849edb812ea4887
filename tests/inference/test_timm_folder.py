"""A network of timm as a folder that timm opens, and folders that timm wrote."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy import load_model
from ray_classy.cli.main import main
from ray_classy.errors import CheckpointError
from ray_classy.inference.export import export_model
from ray_classy.inference.model_card import model_card
from ray_classy.inference.trained import read_trained
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer

timm = pytest.importorskip("timm")

NETWORK = {"name": "timm", "model": "test_resnet"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve images of two classes."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    pixels = np.random.default_rng(0)
    for number in range(12):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        image = pixels.integers(0, 255, (40, 30, 3), np.uint8) // (1 + number % 2)
        Image.fromarray(image).save(folder / "ab"[number % 2] / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    resize = [
        {"name": "Resize", "size": 40},
        {"name": "CenterCrop", "size": 32},
        {"name": "ToTensor"},
        {"name": "Normalize", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
    ]
    data = {
        "name": "image_path",
        "image_folder": str(photos),
        "batchsize_per_replica": 4,
        "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": resize}],
    }
    config = {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {"train": {**data, "use_shuffle": True}, "test": data},
        "model": NETWORK,
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "lr": 0.01},
    }
    place = tmp_path_factory.mktemp("runs")
    return LocalTrainer(storage_path=str(place), name="r").train(build_task(config)).path


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "flowers"
    assert main(["export", run, "--format", "timm", "--output", str(path)]) == 0
    return path


def test_timm_opens_it(exported, run):
    network = timm.create_model(f"local-dir:{exported}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(images), load_model(run, "cpu").model(images), atol=1e-5)
    cfg = network.pretrained_cfg
    assert cfg["mean"] == [0.5, 0.4, 0.3] and cfg["input_size"] == [3, 32, 32] and cfg["crop_pct"] == 0.8
    assert json.loads((exported / "config.json").read_text())["label_names"] == ["a", "b"]


def test_it_predicts_image_files_as_the_run_does(exported, run, photos):
    files = [str(photos / "a" / "0.png"), str(photos / "b" / "1.png")]
    assert load_model(str(exported), "cpu").predict(files) == load_model(run, "cpu").predict(files)


def test_a_folder_that_timm_wrote_is_read(exported, photos, tmp_path):
    network = timm.create_model("test_resnet", num_classes=2).eval()
    timm.models.save_for_hf(network, tmp_path / "hub", {"label_names": ["x", "y"]}, safe_serialization=True)
    found = load_model(str(tmp_path / "hub"), "cpu")
    assert found.classes == ["x", "y"]
    assert found.predict(str(photos / "a" / "0.png")).label in "xy"
    images = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(found.model(images), network(images))


def test_heads_are_named(run):
    trained = read_trained(run)
    trained.config["model"]["heads"] = [{"name": "fully_connected"}]
    with pytest.raises(CheckpointError, match="heads in the place of the network's own classifier"):
        from ray_classy.inference.timm_folder import timm_network

        timm_network(trained.config["model"], load_model(run, "cpu").model)


def test_the_hub_reads_the_model_card(exported):
    from huggingface_hub import ModelCard

    card = ModelCard.load(exported / "README.md")
    assert card.data.pipeline_tag == "image-classification" and card.data.library_name == "timm"
    assert [(one.metric_type, one.dataset_type) for one in card.data.eval_results][-1] == ("accuracy", "image_path")
    for text in ("## Metrics", "| test | accuracy top_1 |", "Classes: `a`, `b`", "lr: 0.01", "torch 2."):
        assert text in card.content
    assert "/tmp" not in card.content


def test_the_card_of_a_file_says_how_it_is_opened(result):
    trained = read_trained(result.path)
    made = export_model(trained, "safetensors")
    text = model_card(trained, made, "safetensors", "r.safetensors")
    assert 'load_file("r.safetensors")' in text and "library_name: ray_classy" in text
