"""`ray-classy new`, and projects in the predecessor's layout."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ray_classy.registry import Registry


@pytest.fixture
def forgotten(tmp_path, monkeypatch):
    """The working directory of a project; what it imports and registers is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {kind: dict(registry._classes) for kind, registry in Registry.all.items()}
    modules = set(sys.modules)
    yield tmp_path
    for kind, registry in Registry.all.items():
        registry._classes = before.get(kind, {}) | {
            name: cls for name, cls in registry._classes.items() if name in registry._places
        }
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_projects_own_test_passes(forgotten, ray_classy):
    made = ray_classy("new", "my-images")
    assert made.code == 0 and "ray-classy train my-images/config.yaml --local" in made.out
    spec = importlib.util.spec_from_file_location("test_of_the_project", "my-images/test_project.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.test_the_config_trains(forgotten / "runs")
    assert (forgotten / "my-images" / "my_images" / "loss.py").exists()


@pytest.mark.full
def test_the_generated_project_passes_under_pytest(tmp_path, ray_classy):
    ray_classy("new", str(tmp_path / "mine_alone"))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path / "mine_alone", capture_output=True)
    assert done.returncode == 0, done.stdout


def test_a_trained_project_is_evaluated_from_anywhere(forgotten, ray_classy):
    ray_classy("new", "mine_trained")
    assert ray_classy("train", "mine_trained/config.yaml", "--local", "--name", "one", "num_epochs=1").code == 0
    evaluate = [sys.executable, "-m", "ray_classy", "evaluate", "runs/one", "--json"]
    done = subprocess.run(evaluate, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["rows"] > 0, done.stderr
    (forgotten / "mine_trained").rename(forgotten / "moved")
    assert "with --code DIR" in subprocess.run(evaluate, capture_output=True, text=True).stderr
    done = subprocess.run([*evaluate, "--code", "moved"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_images_cannot_be_predicted_where_no_transforms_say_how(forgotten, ray_classy):
    ray_classy("new", "mine_predicted")
    assert ray_classy("train", "mine_predicted/config.yaml", "--local", "--name", "one", "num_epochs=1").code == 0
    refused = ray_classy("predict", "runs/one", str(forgotten / "mine_predicted" / "config.yaml"))
    assert refused.code == 1 and "give the dataset `transforms` in the config" in refused.err


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("there", "exists already"),
        ("1st", "cannot name a Python package"),
        ("json", "a Python package 'json' already"),
        ("__main__", "already"),
    ],
)
def test_a_folder_that_cannot_be_made(forgotten, ray_classy, word, told):
    (forgotten / "there").mkdir()
    refused = ray_classy("new", word)
    assert refused.code == 2 and told in refused.err and not list((forgotten / "there").iterdir())


def test_one_word_is_needed(ray_classy):
    assert "new takes one word" in ray_classy("new").err


IMPORTS_ITS_MODULES = """
from pathlib import Path
from ray_classy.generic.registry_utils import import_all_modules
import_all_modules(Path(__file__).parent, __name__)
"""
PREDECESSORS = {
    "losses/__init__.py": IMPORTS_ITS_MODULES,
    "losses/my_loss.py": """
from torch.nn.functional import nll_loss
from ray_classy.losses import ClassyLoss, register_loss

@register_loss("my_loss")
class MyLoss(ClassyLoss):
    @classmethod
    def from_config(cls, config):
        return cls()

    def forward(self, output, target):
        return nll_loss(output.log_softmax(1), target)
""",
    "models/__init__.py": IMPORTS_ITS_MODULES,
    "models/my_model.py": """
from torch import nn
from ray_classy.models import ClassyModel, register_model

@register_model("my_model")
class MyModel(ClassyModel):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    @classmethod
    def from_config(cls, config):
        return cls()

    def forward(self, images):
        return self.net(images)
""",
    "datasets/__init__.py": IMPORTS_ITS_MODULES,
    "datasets/my_dataset.py": """
from ray_classy.dataset import ClassyDataset, register_dataset
from ray_classy.dataset.core.random_image_datasets import RandomImageBinaryClassDataset, SampleType
from ray_classy.dataset.transforms import build_transforms

@register_dataset("my_dataset")
class MyDataset(ClassyDataset):
    @classmethod
    def from_config(cls, config):
        transforms, batch, shuffle, rows = cls.parse_config(config)
        images = RandomImageBinaryClassDataset(
            config["crop_size"], config["class_ratio"], rows, config["seed"], SampleType.TUPLE
        )
        return cls(images, batch, shuffle, build_transforms(transforms), rows)
""",
}


@pytest.fixture
def template(forgotten):
    """A project in the layout of the predecessor's template: configs/ datasets/ losses/ models/."""
    for name, text in PREDECESSORS.items():
        (forgotten / name).parent.mkdir(exist_ok=True)
        (forgotten / name).write_text(text)
    image = {"crop_size": 16, "class_ratio": 0.5, "num_samples": 32, "batchsize_per_replica": 8}
    image["transforms"] = [
        {"name": "generic_image_transform", "transforms": [{"name": "ToTensor"}, {"name": "RandomHorizontalFlip"}]}
    ]
    config = {
        "name": "classification_task",
        "num_epochs": 2,
        "loss": {"name": "my_loss"},
        "dataset": {
            kind: {"name": "my_dataset", "seed": seed, "use_shuffle": kind == "train", **image}
            for seed, kind in enumerate(("train", "test"))
        },
        "meters": {"accuracy": {"topk": [1]}},
        "model": {"name": "my_model"},
        "optimizer": {
            "name": "sgd",
            "param_schedulers": {"lr": {"name": "step", "values": [0.1, 0.01]}},
            "weight_decay": 1e-4,
            "momentum": 0.9,
        },
    }
    Path("configs").mkdir()
    Path("configs/template_config.json").write_text(json.dumps(config))
    return forgotten


def test_a_project_of_the_predecessors_layout_trains(template):
    from ray_classy.generic.registry_utils import import_all_packages_from_directory
    from ray_classy.generic.util import load_json
    from ray_classy.tasks import build_task
    from ray_classy.trainer import LocalTrainer

    sys.path.insert(0, str(template))  # as Python does for a script in that folder
    assert import_all_packages_from_directory(str(template)) == ["datasets", "losses", "models"]
    task = build_task(load_json("configs/template_config.json"))
    LocalTrainer(str(template)).train(task)
    assert task.num_train_steps == 8 and type(task.base_model).__name__ == "MyModel"


def test_the_command_line_trains_it_with_its_packages_named(template, ray_classy):
    code = ("--code", ".", "imports=[datasets,losses,models]")
    trained = ray_classy("train", "configs/template_config.json", "--local", *code, "--json")
    assert trained.code == 0 and trained.json["metrics"]["test"]["loss"] > 0


def test_a_project_of_classy_vision_trains_once_its_imports_are_renamed(template, ray_classy):
    sources = list(template.rglob("*.py"))
    for file in sources:
        file.write_text(file.read_text().replace("ray_classy", "classy_vision"))
    renamed = ray_classy("import", ".", "--write")
    assert f"changed {len(sources)} of {len(sources) + 1} files" in renamed.out and "look at" not in renamed.out
    test_the_command_line_trains_it_with_its_packages_named(template, ray_classy)
