"""The examples run as a user would run them: as programs, from another folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ["train_with_setters.py", "train_from_config.py"]


def run(folder, *words):
    """The standard output of a Python program that runs in `folder`."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def top_1(output):
    return float(re.search(r"test top-1: (0\.\d+|1\.0+)", output)[1])


def train_own_model(folder, *more):
    config = str(ROOT / "examples" / "my_model.yaml")
    return json.loads(run(folder, "-m", "ray_classy", "train", config, "--json", *more))


@pytest.mark.parametrize(
    "script",
    [
        *(pytest.param(script, marks=pytest.mark.full) for script in SCRIPTS),
        pytest.param("train_on_video.py", marks=pytest.mark.full),
    ],
)
def test_script_trains_in_one_process(script, tmp_path):
    assert top_1(run(tmp_path, str(ROOT / "examples" / script), "--local")) > 0.9


@pytest.mark.full
def test_custom_task_trains_in_one_process(tmp_path):
    assert "y = 2.00 x + 1.00" in run(tmp_path, str(ROOT / "examples" / "custom_task.py"), "--local")


def test_own_model_trains_in_one_process(tmp_path):
    assert train_own_model(tmp_path, "--local")["metrics"]["test"]["accuracy"]["top_1"] > 0.9


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize("script", SCRIPTS)
def test_script_trains_on_two_workers(script, tmp_path):
    assert top_1(run(tmp_path, str(ROOT / "examples" / script))) > 0.85


@pytest.mark.ray
@pytest.mark.full
def test_custom_task_trains_on_two_workers(tmp_path):
    assert "y = 2.00 x + 1.00" in run(tmp_path, str(ROOT / "examples" / "custom_task.py"))


@pytest.mark.full
@pytest.mark.ray
def test_sweep_script(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "sweep.py"), "--num-samples", "2", "--num-epochs", "2")
    assert out.splitlines()[0].startswith("trial  weight_decay  start_value") and "t0001" in out
    checkpoint = re.search(r"its checkpoint: (\S+)", out)[1]
    assert os.path.isfile(os.path.join(checkpoint, "checkpoint.torch"))


@pytest.mark.full
@pytest.mark.ray
def test_own_model_trains_on_two_workers(tmp_path):
    assert train_own_model(tmp_path)["metrics"]["test"]["accuracy"]["top_1"] > 0.85
