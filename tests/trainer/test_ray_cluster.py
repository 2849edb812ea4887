"""Runs on clusters of their own: several nodes, code that the nodes lack, storage that they do not share."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.trainer.nodes import killed, started_node

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Put on PYTHONPATH of the nodes: hides the installed package, as on a machine that never had it.
HIDE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "ray_classy" not in str(finder).lower()]
sys.path[:] = [folder for folder in sys.path if folder != {root!r}]
"""

CONFIG = {
    "name": "classification_task",
    "imports": ["my_parts", "my_space.widths"],
    "num_epochs": 1,
    "dataset": {
        "train": {"name": "digits", "split": "train", "batchsize_per_replica": 100, "use_shuffle": True},
        "test": {"name": "digits", "split": "test", "batchsize_per_replica": 100, "use_shuffle": False},
    },
    "model": {"name": "my_model"},
    "loss": {"name": "CrossEntropyLoss"},
    "meters": {"accuracy": {"topk": [1]}},
    "optimizer": {"name": "sgd", "lr": 0.1},
}

PARTS = """
import os
import queue, secrets

import my_layers
import ray_classy
from ray_classy.models import ClassyModel, register_model


@register_model("my_model")
class MyModel(ClassyModel):
    def __init__(self):
        super().__init__()
        with open(os.path.join(os.path.dirname(__file__), "my_words.txt")) as file:
            assert file.read() == "words"
        self.layer = my_layers.layer()

    def forward(self, x):
        assert ray_classy.__file__
        return self.layer(x.flatten(1))
"""


@pytest.fixture
def two_nodes(tmp_path):
    """The address of a cluster of two one-CPU nodes that do not have this package."""
    from ray.cluster_utils import Cluster

    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(HIDE.format(root=ROOT))
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(hide)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    os.environ.pop("PYTHONPATH")
    if kept is not None:
        os.environ["PYTHONPATH"] = kept
    yield cluster.address
    cluster.shutdown()


def train(config, *arguments, cwd):
    command = [sys.executable, "-m", "ray_classy", "train", str(config), "--json", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def write_config(folder):
    folder.mkdir()
    (folder / "task.json").write_text(json.dumps(CONFIG))
    (folder / "my_parts.py").write_text(PARTS)
    layers = (
        "import my_space.widths\nfrom torch import nn\ndef layer():\n    return nn.Linear(64, my_space.widths.get())"
    )
    beside = "os.path.join(os.path.dirname(__file__), 'width.txt')"
    widths = f"import os\ndef get():\n    with open({beside}) as file:\n        return int(file.read())"
    (folder / "my_layers.py").write_text(layers)
    (folder / "my_words.txt").write_text("words")
    (folder / "my_space").mkdir()
    (folder / "my_space" / "widths.py").write_text(widths)
    (folder / "my_space" / "width.txt").write_text("10")
    for name in ("queue", "secrets", "logging", "olefile", "optuna", "torch"):  # no one may find these
        (folder / f"{name}.py").write_text("raise RuntimeError('a file beside the config replaces a module')")
    return folder / "task.json"


@pytest.mark.ray
@pytest.mark.full
def test_package_and_config_folder_are_shipped_to_nodes_that_lack_them(two_nodes, tmp_path):
    config, elsewhere = write_config(tmp_path / "project"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = train(config, "--address", two_nodes, "--num-workers", "2", "--name", "run", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["run_dir"] == str(elsewhere / "runs" / "run")
    assert result["metrics"]["test"]["accuracy"]["top_1"] > 0.3


@pytest.mark.ray
@pytest.mark.full
def test_storage_that_another_node_does_not_see_is_refused(tmp_path):
    if subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("this machine does not allow a mount namespace")
    storage, address = tmp_path / "storage", "127.0.0.1:6391"
    storage.mkdir()
    program = os.path.join(os.path.dirname(sys.executable), "ray")
    one_cpu = ["--num-cpus=1", "--block"]
    head = started_node([program, "start", "--head", "--port=6391", "--include-dashboard=false", *one_cpu])
    join = f"mount -t tmpfs none {storage} && exec {program} start --address={address} {' '.join(one_cpu)}"
    other = started_node(["unshare", "-m", "sh", "-c", join])
    try:
        flags = ("--address", address, "--num-workers", "2", "--storage-path", str(storage))
        done = train(write_config(tmp_path / "project"), *flags, cwd=tmp_path)
    finally:
        killed(other)
        killed(head)
    assert done.returncode == 1
    assert "does not see the storage path" in done.stderr


@pytest.mark.ray
@pytest.mark.full
def test_two_one_cpu_workers_on_two_cpus_with_a_dataset_do_not_starve(tmp_path):
    config = write_config(tmp_path / "project")
    script = (
        "import ray; ray.init('local', num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
        "from ray_classy.config import load_config\n"
        "from ray_classy.tasks import build_task\n"
        "from ray_classy.trainer import RayTrainer\n"
        "from ray.train import ScalingConfig\n"
        f"task = build_task(load_config({str(config)!r}))\n"
        "print(RayTrainer(ScalingConfig(num_workers=2)).train(task).metrics['test'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0 and "top_1" in done.stdout, done.stderr
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize(
    "script",
    ["elastic", "killed_node", "out_of_memory", "preempted", "small_store", "sweep_on_killed_node", "world_sizes"],
)
def test_on_a_cluster_in_a_process_of_its_own(script, tmp_path):
    command = [sys.executable, "-m", "tests.trainer.cluster_scripts", script, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize("script", ["stopped"])
def test_on_a_cluster_in_a_namespace_of_its_own(script, tmp_path):
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*apart, "true"]).returncode:
        pytest.skip("this machine does not allow a namespace of processes")
    command = [*apart, sys.executable, "-m", "tests.trainer.cluster_scripts", script, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
