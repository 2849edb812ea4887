"""Writes a trained model to files that other programs read: a program of torch.export or ONNX, or plain weights."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ray_classy.errors import CheckpointError, ComponentError, RayClassyError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.evaluation import config_for, dataset_for
from ray_classy.inference.export_record import RECORD, ExportRecord, record_of
from ray_classy.inference.exported import Program
from ray_classy.inference.load_model import classifier_of
from ray_classy.inference.normalization import Normalized, without_normalization
from ray_classy.inference.onnx_file import OnnxModel, require_onnx, write_onnx
from ray_classy.inference.program_file import check_program
from ray_classy.inference.timm_folder import (
    CONFIG,
    WEIGHTS,
    timm_config,
    timm_network,
    timm_weights,
    weights_of_model,
)
from ray_classy.inference.trained import Trained
from ray_classy.models.pretrained import require

FORMATS = ("pt2", "onnx", "safetensors", "timm")
PROGRAMS = ("pt2", "onnx")
"""Those that say what is computed, which the others leave to the code that reads the weights."""
_ROWS = 4


@dataclass(frozen=True)
class Export:
    """A model as the content of files.

    Attributes:
        files: their contents: of a folder by name, or of the one file under "".
        record: classes, preprocessing and what else goes with the model.
        difference: the largest difference of an output of the exported model and of the model.
        rows: on how many rows they were compared.
        lacking: why they are random numbers and no rows of the run's test data; empty if they are such rows.
    """

    files: dict[str, bytes]
    record: ExportRecord
    difference: float
    rows: int
    lacking: str

    @property
    def content(self) -> bytes:
        """The content of the one file."""
        return self.files[""]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.record.shape


def check_format(form: str) -> None:
    """Checks that a model can be exported in a format here.

    Raises:
        ComponentError: there is no such format.
        UnavailableError: the packages that write it are not installed.
    """
    if form not in FORMATS:
        raise ComponentError(f"a model is exported as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {form!r}")
    if form == "onnx":
        require_onnx()
    if form == "timm":
        require("timm", "timm")
    if form in ("safetensors", "timm"):
        require("safetensors", "safetensors")


def export_model(trained: Trained, form: str = "pt2", normalize: bool = False) -> Export:
    """Exports the model of a checkpoint, and compares the exported model with it.

    The exported model takes a float32 tensor (rows, channels, height, width) of any number of rows, preprocessed as
    `ray_classy.json` says, and returns the model's outputs (rows, classes), in float32.

    Args:
        trained: the checkpoint.
        form: "pt2", a program of torch.export with that JSON among its extra files; "onnx", with that JSON in the
            metadata; "safetensors", the weights under the names of `ClassyModel.state_dict`, with that JSON in the
            metadata; or "timm", a folder as `timm.create_model("local-dir:PATH", pretrained=True)` opens it.
        normalize: of "pt2" and "onnx", whether the exported model normalizes its inputs itself: it takes images in
            [0, 1], and the JSON lists the transforms before the normalization.

    Raises:
        ComponentError: there is no such format, or it cannot hold the normalization.
        UnavailableError: the packages that write it are not installed.
        CheckpointError: the model cannot be exported; the message says why.
    """
    check_format(form)
    if normalize and form not in PROGRAMS:
        raise ComponentError(f"a model of weights alone computes nothing: normalize goes with {' and '.join(PROGRAMS)}")
    if trained.exported is not None:
        raise CheckpointError(
            f"{trained.path!r} is an export already: export the run or checkpoint that it was made of"
        )
    normalization = None
    if normalize:
        config, normalization = without_normalization(trained.config)
        trained = dataclasses.replace(trained, config=config)
    model = classifier_of(trained, "cpu")
    if normalization is not None:
        model.model = Normalized(model.model, normalization).eval()
    inputs, lacking = _inputs(trained, model)
    record = record_of(trained.config, model, tuple(inputs.shape[1:]), trained.epoch, normalization)
    with torch.inference_mode():
        expected = model.model(inputs)
    if not isinstance(expected, torch.Tensor):
        raise CheckpointError(f"a model with one output is exported, and this one returns a {type(expected).__name__}")
    files, run = _WRITERS[form](model, inputs, record)
    with torch.inference_mode():
        found = run(inputs)
    difference = float((expected - found).abs().max())
    if not difference <= 1e-3 * max(1.0, float(expected.abs().max())):
        raise CheckpointError(f"the exported model gives other outputs: they differ by {difference:.3g}")
    return Export(files, record, difference, len(inputs), lacking)


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


_Files = tuple[dict[str, bytes], Callable[[torch.Tensor], torch.Tensor]]


def _program(model: Classifier, inputs: torch.Tensor, record: ExportRecord) -> _Files:
    rows = torch.export.Dim("rows")
    try:
        program = torch.export.export(_OfImages(model.model), (inputs[:2],), dynamic_shapes=({0: rows},))
        program.example_inputs = None  # they would be pickled into the file
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it names folders of this machine
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={RECORD: record.text()})
    except Exception as error:  # whatever the user's model does that cannot be traced
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"torch.export cannot take the model: {type(error).__name__}: {reason}") from error
    content = file.getvalue()
    try:
        return {"": content}, Program(check_program(content)[0])
    except CheckpointError as error:
        raise CheckpointError(f"the exported program could not be read back: {error}; export the weights") from None


def _onnx(model: Classifier, inputs: torch.Tensor, record: ExportRecord) -> _Files:
    content = write_onnx(_OfImages(model.model), inputs, record.text())
    return {"": content}, OnnxModel(content)


def _weights(model: Classifier, inputs: torch.Tensor, record: ExportRecord) -> _Files:
    from safetensors.torch import load, save

    state = {name: value.contiguous().clone() for name, value in model.model.state_dict().items()}
    content = save(state, metadata={RECORD: record.text()})
    return {"": content}, _with_state(model.model, load(content))


def _timm(model: Classifier, inputs: torch.Tensor, record: ExportRecord) -> _Files:
    from safetensors.torch import load, save

    network = timm_network(record.model, model.model)
    content = save(timm_weights(network), metadata={"format": "pt"})
    files = {CONFIG: timm_config(network, record).encode(), WEIGHTS: content, RECORD: record.text().encode()}
    return files, _with_state(model.model, weights_of_model(load(content)))


def _with_state(model: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """A copy of a model with weights that were read from a file."""
    again = copy.deepcopy(model)
    again.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
    again.load_state_dict(state)
    return again


_WRITERS: dict[str, Callable[[Classifier, torch.Tensor, ExportRecord], _Files]] = {
    "pt2": _program,
    "onnx": _onnx,
    "safetensors": _weights,
    "timm": _timm,
}
