"""The Python of the documents runs: the blocks of a page in their order, with stand-ins for what it takes as given."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from ray_classy.registry import Registry
from tests.test_docs import PAGES, ROOT, blocks, name

RECORDED = ROOT / "tests" / "data" / "recorded" / "finished"
CLOUD = re.compile(r"s3://")
"""Blocks that need a store are only parsed, by `test_docs`."""
RAY = re.compile(r"RayTrainer\(|\.fit\(\)")
EXPORTS = re.compile(r"NAME\.pt2|NAME-timm")
SMALLER = {
    "num_samples=16": "num_samples=2",
    'load_config("configs/digits.yaml")': 'load_config("small.yaml")',
    "torch.rand(8, 3, 224, 224)": "torch.rand(8, 1, 8, 8)",
}
"""What is replaced so that a block takes seconds, and fits the run that stands for `runs/NAME`."""
SMALL = """
name: classification_task
num_epochs: 2
dataset:
  train: {name: digits, split: train, batchsize_per_replica: 32, num_samples: 64}
  test: {name: digits, split: test, batchsize_per_replica: 32, num_samples: 64}
model: {name: mlp, input_dim: 64, output_dim: 10, hidden_dims: [8]}
loss: {name: CrossEntropyLoss}
meters: {accuracy: {topk: [1]}}
optimizer: {name: sgd, lr: 0.1, weight_decay: 0.0}
ray: {num_workers: 2}
"""


def python_blocks(page, kind):
    """The blocks of a page that are run: "plain", with a Ray cluster ("ray"), or on exports ("exports")."""
    for block in blocks(page, "python"):
        of = "ray" if RAY.search(block) else "exports" if EXPORTS.search(block) else "plain"
        if of == kind and not CLOUD.search(block):
            yield block


def pages(kind):
    return [page for page in PAGES if page.name != "tutorial.md" and [*python_blocks(page, kind)]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with what the pages name, in which registrations are undone."""
    shutil.copytree(RECORDED, tmp_path / "runs" / "NAME", symlinks=True)
    checkpoint = next(tmp_path.glob("runs/NAME/epoch_*"))
    os.symlink(checkpoint.name, tmp_path / "runs" / "NAME" / "epoch_0016-step_000368")
    Image.new("L", (8, 8)).save(tmp_path / "photo.jpg")
    (tmp_path / "weights").mkdir()
    (tmp_path / "small.yaml").write_text(SMALL)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    before = {kind: dict(registry._classes) for kind, registry in Registry.all.items()}
    yield tmp_path
    for kind, classes in before.items():
        Registry.all[kind]._classes.clear()
        Registry.all[kind]._classes.update(classes)


def given(page):
    """The names that a page leaves to its reader."""
    from ray_classy.models import build_model
    from ray_classy.tasks import ClassificationTask

    if page.name == "weights.md":
        model = build_model({"name": "mlp", "input_dim": 4, "output_dim": 2, "hidden_dims": []})
        torch.save(model.state_dict(), "weights/last.ckpt")
    else:
        model = build_model({"name": "torchvision", "model": "resnet18"})
    return {
        "__name__": "__main__",
        "task": ClassificationTask(),
        "model": model,
        "make_layers": lambda width, activation: torch.nn.Identity(),
        "my_rows": [{"input": torch.zeros(1), "target": 0}],
        "my_transform": None,
    }


def run(page, kind):
    names = given(page)
    for block in python_blocks(page, kind):
        for shown, smaller in SMALLER.items():
            block = block.replace(shown, smaller)
        exec(compile(block, str(page), "exec"), names)
    return names


@pytest.mark.parametrize("page", pages("plain"), ids=name)
def test_python_runs(page, folder):
    run(page, "plain")


@pytest.mark.full
@pytest.mark.parametrize("page", pages("exports"), ids=name)
def test_python_runs_on_exports(page, folder):
    import timm

    from ray_classy.cli.main import main

    assert main(["export", "runs/NAME", "--output", "NAME.pt2"]) == 0
    network = timm.create_model("resnet10t", num_classes=2)
    about = {"architecture": "resnet10t", "num_classes": 2, "pretrained_cfg": {"input_size": [3, 32, 32]}}
    Path("NAME-timm").mkdir()
    Path("NAME-timm", "config.json").write_text(json.dumps(about))
    torch.save(network.state_dict(), "NAME-timm/pytorch_model.bin")
    run(page, "exports")


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize("page", pages("ray"), ids=name)
def test_python_runs_on_ray(page, folder, ray_cluster):
    run(page, "ray")
