"""Writes a trained model to a file that other programs read: a torch.export program, or plain weights."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ray_classy.errors import CheckpointError, ComponentError, RayClassyError, UnavailableError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.evaluation import config_for, dataset_for
from ray_classy.inference.export_record import RECORD, record_of
from ray_classy.inference.exported import Program
from ray_classy.inference.load_model import classifier_of
from ray_classy.inference.program_file import check_program
from ray_classy.inference.trained import Trained

FORMATS = ("pt2", "safetensors")
_ROWS = 4


@dataclass(frozen=True)
class Export:
    """A model as the content of a file.

    Attributes:
        content: of the file.
        difference: the largest difference of an output of the exported model and of the model.
        rows: on how many rows they were compared.
        lacking: why they are random numbers and no rows of the run's test data; empty if they are such rows.
        input_shape: of one row.
    """

    content: bytes
    difference: float
    rows: int
    lacking: str
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
    if trained.exported is not None:
        raise CheckpointError(
            f"{trained.path!r} is an export already: export the run or checkpoint that it was made of"
        )
    model = classifier_of(trained, "cpu")
    inputs, lacking = _inputs(trained, model)
    facts = record_of(trained.config, model, tuple(inputs.shape[1:]), trained.epoch).text()
    with torch.inference_mode():
        expected = model.model(inputs)
    if not isinstance(expected, torch.Tensor):
        raise CheckpointError(f"a model with one output is exported, and this one returns a {type(expected).__name__}")
    content, run = _program(model, inputs, facts) if form == "pt2" else _weights(trained, model, facts)
    with torch.inference_mode():
        found = run(inputs)
    difference = float((expected - found).abs().max())
    if not difference <= 1e-3 * max(1.0, float(expected.abs().max())):
        raise CheckpointError(f"the exported model gives other outputs: they differ by {difference:.3g}")
    return Export(content, difference, len(inputs), lacking, tuple(inputs.shape[1:]))


def _inputs(trained: Trained, model: Classifier) -> tuple[torch.Tensor, str]:
    """Some preprocessed rows of the run's test data; where they cannot be read, random ones, and why."""
    try:
        dataset = dataset_for(config_for(trained), model)
        rows = [dataset[number]["input"] for number in range(min(_ROWS, len(dataset)))]
        if len(rows) > 1:
            return torch.stack(rows), ""
        lacking = f"the test data has {len(rows)} rows"
    except (RayClassyError, OSError) as error:
        lacking = str(error)
    image = torch.rand(3 if model.preprocessing.mode == "RGB" else 1, 256, 256)
    batch = next(iter(model.preprocessing.batches([image] * _ROWS, _ROWS)))
    return torch.rand(batch["input"].shape), lacking


class _OfImages(nn.Module):
    """A model with one named argument, as torch.export needs it for a number of rows that varies."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


def _program(model: Classifier, inputs: torch.Tensor, facts: str) -> tuple[bytes, Any]:
    rows = torch.export.Dim("rows")
    try:
        program = torch.export.export(_OfImages(model.model), (inputs[:2],), dynamic_shapes=({0: rows},))
        program.example_inputs = None  # they would be pickled into the file
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it names folders of this machine
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={RECORD: facts})
    except Exception as error:  # whatever the user's model does that cannot be traced
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"torch.export cannot take the model: {type(error).__name__}: {reason}") from error
    content = file.getvalue()
    try:
        return content, Program(check_program(content)[0])
    except CheckpointError as error:
        raise CheckpointError(f"the exported program could not be read back: {error}; export the weights") from None


def _weights(trained: Trained, model: Classifier, facts: str) -> tuple[bytes, Any]:
    try:
        from safetensors.torch import load, save
    except ImportError:
        raise UnavailableError("to write .safetensors: pip install 'ray_classy[safetensors]'") from None
    state = {name: value.contiguous().clone() for name, value in model.model.state_dict().items()}
    content = save(state, metadata={RECORD: facts})
    again = trained.model()
    again.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
    again.load_state_dict(load(content))
    return content, again
