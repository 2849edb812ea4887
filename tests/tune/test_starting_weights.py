"""Pretrained weights on a cluster: the driver reads them, workers and trials get tensors."""

import copy
import os

import PIL.Image
import pytest
import torch
import torchvision
from ray.train import ScalingConfig

from ray_classy.checkpoint import load_checkpoint
from ray_classy.config import load_config
from ray_classy.tasks import build_task
from ray_classy.trainer import RayTrainer
from ray_classy.tune import TaskTuner

pytestmark = [pytest.mark.ray, pytest.mark.full]

_NETWORKS = ("squeezenet1_1", "mobilenet_v3_small")


@pytest.fixture
def cache(ray_cluster, tmp_path, monkeypatch):
    """A cache folder of torch with files of weights, which the workers of the cluster do not know."""
    folder = tmp_path / "cache" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for name in _NETWORKS:
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        torch.save(torchvision.models.get_model(name).state_dict(), folder / os.path.basename(url))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return folder


def config(folder, model):
    for index, name in enumerate(("cat", "dog")):
        os.makedirs(folder / "data" / name, exist_ok=True)
        for shade in (60, 120):
            PIL.Image.new("RGB", (40, 36), (shade, 80 * index, 40)).save(folder / "data" / name / f"{shade}.png")
    transforms = [{"name": "generic_image_transform", "transforms": [{"name": "model_preprocessing", "size": 32}]}]
    data = {"name": "image_path", "image_folder": str(folder / "data"), "batchsize_per_replica": 2}
    return {
        "name": "fine_tuning",
        "num_epochs": 1,
        "dataset": {kind: {**copy.deepcopy(data), "transforms": transforms} for kind in ("train", "test")},
        "model": {"name": "torchvision", "model": model, "weights": "DEFAULT"},
        "freeze": ["features.*"],
        "loss": {"name": "CrossEntropyLoss"},
        "optimizer": {"name": "sgd", "lr": 0.01},
    }


def is_of_file(checkpoint, name, cache):
    """Whether the frozen first layer of a checkpoint is that of the file of weights."""
    trunk = load_checkpoint(checkpoint)["classy_state_dict"]["base_model"]["model"]["trunk"]
    file = next(file for file in os.listdir(cache) if file.startswith(name))
    given = torch.load(cache / file, weights_only=True)
    key = next(key for key in given if key.startswith("features.0.") and key.endswith("weight"))
    return torch.equal(trunk[f"model.{key}"], given[key])


def test_workers_get_the_weights_that_the_driver_has_read(cache, tmp_path):
    task = build_task(config(tmp_path, "squeezenet1_1"))
    result = RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path), name="run").train(task)
    assert is_of_file(result.checkpoint, "squeezenet1_1", cache)
    assert "of 52 entries of squeezenet1_1" in (tmp_path / "run" / "log.txt").read_text()
    names = [one["name"] for one in load_config(str(tmp_path / "run" / "config.yaml"))["dataset"]["test"]["transforms"]]
    assert names == ["generic_image_transform"]


def test_trials_get_the_weights_that_the_driver_has_read(cache, tmp_path):
    searched = {"search": "grid_search", "values": list(_NETWORKS)}
    sweep = {**config(tmp_path, searched), "tune": {"metric": "test.loss", "mode": "min"}}
    trainer = RayTrainer(storage_path=str(tmp_path), name="sweep")
    result = TaskTuner(sweep, trainer=trainer, progress=False).fit()
    assert [record.state for record in result.trials] == ["finished"] * 2
    for record in result.trials:
        checkpoint = os.path.join(result.path, record.name, "last")
        assert is_of_file(checkpoint, record.params["model.model"], cache)
