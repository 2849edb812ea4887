"""Checkpoints that Classy Vision 0.7.0 wrote; tests/data/record_predecessor.py says how they were made."""

import json
from pathlib import Path

import pytest
import torch

from ray_classy.dataset import ClassyDataset
from ray_classy.models import ClassyModel
from ray_classy.tasks import build_task
from tests.data.predecessor_rows import Rows
from tests.helpers import train

FOLDER = Path(__file__).parents[1] / "data" / "predecessor"
NAMES = sorted(path.stem for path in FOLDER.glob("*.torch"))


def read(name):
    content = torch.load(FOLDER / f"{name}.torch", weights_only=True)
    return content, json.loads((FOLDER / f"{name}.json").read_text())


def check_scores(model, rows, expected):
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(rows.inputs), torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_its_weights_give_its_outputs(name):
    content, expected = read(name)
    model = ClassyModel.from_checkpoint(str(FOLDER / f"{name}.torch"))
    check_scores(model, Rows(content["input_args"]["input_shape"]), expected["output"])


@pytest.mark.parametrize("name", NAMES)
def test_its_run_is_resumed_with_the_momentum_of_each_parameter(name):
    content, expected = read(name)
    rows = Rows(content["input_args"]["input_shape"])
    task = build_task(content["input_args"]["config"]).set_checkpoint(str(FOLDER / f"{name}.torch"))
    task.set_dataset(ClassyDataset(rows, rows.SIZE, False, None), "train")
    check_scores(train(task).base_model, rows, expected["resumed"])
