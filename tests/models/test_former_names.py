"""Weights that Classy Vision 0.7.0 wrote: `data/classy_vision_resnext.pt` has checkpoints, inputs and its outputs."""

import copy
from pathlib import Path

import pytest
import torch

from ray_classy.errors import CheckpointError
from ray_classy.models import ClassyModel, build_model
from ray_classy.tasks import FineTuningTask
from tests.helpers import make_task

CASES = torch.load(Path(__file__).parent / "data" / "classy_vision_resnext.pt", weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_its_weights_give_its_outputs(name):
    case = CASES[name]
    model = ClassyModel.from_checkpoint(copy.deepcopy(case["checkpoint"])).eval()
    with torch.no_grad():
        assert torch.allclose(model(case["input"]), case["output"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_its_trunk_is_fine_tuned(name, tmp_path):
    checkpoint = CASES[name]["checkpoint"]
    torch.save(checkpoint, tmp_path / "model_final.torch")
    config = copy.deepcopy(checkpoint["input_args"]["config"]["model"])
    config["heads"][0]["num_classes"] = 7
    model = build_model(config)
    task = make_task(cls=FineTuningTask).set_model(model).set_reset_heads(True)
    task.set_pretrained_checkpoint(str(tmp_path / "model_final.torch")).prepare()
    state = task.base_model.get_classy_state()["model"]
    before = checkpoint["classy_state_dict"]["base_model"]["model"]["trunk"]
    assert len(state["trunk"]) == len(before)
    assert sorted(float(v.double().sum()) for v in state["trunk"].values()) == pytest.approx(
        sorted(float(v.double().sum()) for v in before.values())
    )


def test_what_does_not_fit_is_named():
    state = copy.deepcopy(CASES["basic"]["checkpoint"]["classy_state_dict"]["base_model"])
    state["model"]["trunk"]["blocks.0.block0-0.convolutional_block.9.weight"] = torch.ones(1)
    with pytest.raises(CheckpointError, match=r"blocks\.0\.block0-0\.9\.weight"):
        build_model(CASES["basic"]["checkpoint"]["input_args"]["config"]["model"]).set_classy_state(state)
