"""What tests/data/record_convnets.py recorded with Classy Vision 0.7.0, and how it is compared."""

import hashlib
import json
import warnings
from pathlib import Path

import torch

from ray_classy.models import ClassyModel, build_model
from ray_classy.models.plain_weights import find_weights

_DATA = Path(__file__).parent / "data"
OUTLINES = json.loads((_DATA / "classy_vision_convnets.json").read_text())


def recorded(name):
    """A recorded network, with its weights, and what was recorded of it."""
    case = torch.load(_DATA / f"classy_vision_{name.partition('_')[0]}.pt", weights_only=True)[name]
    return ClassyModel.from_checkpoint(case["checkpoint"]), case


def assert_same_outputs(name):
    """Checks that the recorded weights give the recorded outputs, in evaluation and in training mode."""
    model, case = recorded(name)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(case["input"]), case["output"], rtol=1e-5, atol=1e-5)
        trained = model.train()(case["input"])
    torch.testing.assert_close(trained, case["output_in_training"], rtol=1e-3, atol=1e-4)


def outline(config):
    """The number of parameters of a network, and a hash of the shapes of the entries of its state."""
    model = build_model(config, device="meta")
    shapes = "\n".join(str(tuple(value.shape)) for value in model.state_dict().values())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "shapes": hashlib.sha256(shapes.encode()).hexdigest()}


def assert_traces(name):
    """Checks that the trace of a network computes what the network does."""
    model, case = recorded(name)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that tracing is deprecated, and heads look at shapes
        trace = torch.jit.trace(model.eval(), case["input"])
        torch.testing.assert_close(trace(case["input"]), case["output"], rtol=1e-5, atol=1e-5)


def assert_loads(model, theirs, x):
    """Checks that weights of a wrapped network of torchvision are found, and give its outputs.

    Args:
        model: built here, with a head whose last layer is torchvision's.
        theirs: the same network of torchvision.
        x: an input.
    """
    with torch.no_grad():
        for value in theirs.buffers():
            value.add_(torch.rand(value.shape).to(value.dtype))
        given = {f"module.{name}": value for name, value in theirs.state_dict().items()}
        model.load_state_dict(find_weights(model, given).weights)
        torch.testing.assert_close(model.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)
