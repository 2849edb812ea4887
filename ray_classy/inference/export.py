"""Writes a trained model to a file that other programs read: a torch.export program, or plain weights."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from typing import Any

import torch

from ray_classy import __version__
from ray_classy.errors import CheckpointError, ComponentError, RayClassyError, UnavailableError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.evaluation import config_for, dataset_for
from ray_classy.inference.load_model import classifier_of
from ray_classy.inference.trained import Trained
from ray_classy.redact import redacted_values
from ray_classy.tasks.averaged_views import AveragedViews
from ray_classy.tasks.data_sections import with_test_section

FORMATS = ("pt2", "safetensors")
_ROWS = 4
FACTS = "ray_classy.json"
"""Name of the entry with classes and preprocessing in a .pt2 file, and of the metadata in a .safetensors file."""


@dataclass(frozen=True)
class Export:
    """A model as the content of a file.

    Attributes:
        content: of the file.
        difference: the largest difference of an output of the exported model and of the model.
        rows: on how many rows they were compared.
        real: whether those are rows of the run's data; if not, random numbers.
        input_shape: of one row.
    """

    content: bytes
    difference: float
    rows: int
    real: bool
    input_shape: tuple[int, ...]


def export_model(trained: Trained, form: str = "pt2") -> Export:
    """Exports the model of a checkpoint, and compares the exported model with it.

    The exported model takes a float32 tensor (rows, channels, height, width) of any number of rows, preprocessed as
    `ray_classy.json` in the file says, and returns the model's outputs (rows, classes), in float32.

    Args:
        trained: the checkpoint.
        form: "pt2", a program of torch.export with that JSON among its extra files; or "safetensors", the weights under
            the names of `ClassyModel.state_dict`, with that JSON in the metadata.

    Raises:
        ComponentError: there is no such format.
        CheckpointError: the model cannot be exported; the message says why.
    """
    if form not in FORMATS:
        raise ComponentError(f"a model is exported as {' or '.join(FORMATS)}, not {form!r}")
    model = classifier_of(trained, "cpu")
    inputs, real = _inputs(trained, model)
    facts = json.dumps(_facts(trained, model, tuple(inputs.shape[1:])), indent=2)
    content, run = _program(model, inputs, facts) if form == "pt2" else _weights(trained, model, facts)
    with torch.inference_mode():
        expected, found = model.model(inputs), run(inputs)
    difference = float((expected - found).abs().max())
    if not difference <= 1e-3 * max(1.0, float(expected.abs().max())):
        raise CheckpointError(f"the exported model gives other outputs: they differ by {difference:.3g}")
    return Export(content, difference, len(inputs), real, tuple(inputs.shape[1:]))


def _inputs(trained: Trained, model: Classifier) -> tuple[torch.Tensor, bool]:
    """Some preprocessed rows of the run's test data; random ones of an image where that is not there."""
    try:
        dataset = dataset_for(config_for(trained), model)
        rows = [dataset[number]["input"] for number in range(min(_ROWS, len(dataset)))]
        if len(rows) > 1:
            return torch.stack(rows), True
    except (RayClassyError, OSError):
        pass
    image = torch.rand(3 if model.preprocessing.mode == "RGB" else 1, 256, 256)
    batch = next(iter(model.preprocessing.batches([image] * _ROWS, _ROWS)))
    return torch.rand(batch["input"].shape), False


def _facts(trained: Trained, model: Classifier, shape: tuple[int, ...]) -> dict[str, Any]:
    dataset = with_test_section(trained.config).get("dataset") or {}
    section = dataset.get("test") or dataset.get("train") or {}
    return {
        "ray_classy": __version__,
        "classes": model.classes,
        "activation": model.activation,
        "input_shape": ["rows", *shape],
        "preprocessing": {
            "image_mode": model.preprocessing.mode,
            "transforms": section.get("transforms"),
            "dataset": section.get("name"),
        },
        "test_time_augmentation": dataclasses.asdict(model.views) if model.views != AveragedViews() else None,
        "model": redacted_values(trained.config["model"]),
        "metrics": trained.metrics,
        "epoch": trained.epoch,
    }


def _program(model: Classifier, inputs: torch.Tensor, facts: str) -> tuple[bytes, Any]:
    rows = torch.export.Dim("rows")
    try:
        program = torch.export.export(model.model, (inputs[:2],), dynamic_shapes=({0: rows},))
        program.example_inputs = None  # they would be pickled into the file
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={FACTS: facts})
    except Exception as error:  # whatever the user's model does that cannot be traced
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"torch.export cannot take the model: {type(error).__name__}: {reason}") from error
    return file.getvalue(), torch.export.load(io.BytesIO(file.getvalue())).module()


def _weights(trained: Trained, model: Classifier, facts: str) -> tuple[bytes, Any]:
    try:
        from safetensors.torch import load, save
    except ImportError:
        raise UnavailableError("to write .safetensors: pip install 'ray_classy[safetensors]'") from None
    state = {name: value.contiguous().clone() for name, value in model.model.state_dict().items()}
    content = save(state, metadata={FACTS: facts})
    again = trained.model()
    again.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
    again.load_state_dict(load(content))
    return content, again
