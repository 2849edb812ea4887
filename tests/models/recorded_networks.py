"""What tests/data/record_vit3d.py recorded with Classy Vision 0.7.0, and how it is compared."""

import hashlib
import json
from pathlib import Path

import torch

from ray_classy.models import ClassyModel, build_model
from ray_classy.models.head_points import in_trunk

_DATA = Path(__file__).parent / "data"
OUTLINES = json.loads((_DATA / "classy_vision_vit3d.json").read_text())


def recorded(network):
    """Returns the recorded narrow networks of a kind by name."""
    return torch.load(_DATA / f"classy_vision_{network}.pt", weights_only=True)


def assert_same_outputs(case):
    """Checks that the recorded weights give the recorded outputs, in evaluation and in training mode."""
    model = ClassyModel.from_checkpoint(case["checkpoint"])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(case["input"]), case["output"], rtol=1e-5, atol=1e-5)
        trained = model.train()(case["input"])
    torch.testing.assert_close(trained, case["output_in_training"], rtol=1e-5, atol=1e-5)


def assert_same_outline(name):
    """Checks the parameters and the names, shapes and order of all entries of the state of a network of full size."""
    case = OUTLINES[name]
    model = build_model(case["config"], device="meta")
    entries = {entry: value for entry, value in model.state_dict().items() if in_trunk(entry)}
    lines = "\n".join(f"{entry} {tuple(value.shape)}" for entry, value in entries.items())
    assert sum(parameter.numel() for parameter in model.parameters()) == case["parameters"]
    assert hashlib.sha256(lines.encode()).hexdigest() == case["outline"]
