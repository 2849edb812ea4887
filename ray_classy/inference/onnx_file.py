"""Writes and reads `.onnx` files, with the record in their metadata."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import nn

from ray_classy.errors import CheckpointError, DamagedCheckpointError, UnsafeFileError
from ray_classy.inference.export_record import RECORD
from ray_classy.models.pretrained import require
from ray_classy.printable import printable

_EXTRA = "export"
_MOST_BYTES = 2**31 - 1
"""A file of ONNX is one message of Protocol Buffers, which has at most so many bytes."""


def require_onnx() -> None:
    """Checks that the packages of the extra `export` are installed.

    Raises:
        UnavailableError: they are not.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, _EXTRA)


def write_onnx(model: nn.Module, inputs: torch.Tensor, record: str) -> bytes:
    """Returns a model as a file of ONNX, which takes any number of rows.

    Args:
        model: takes one tensor, named `images` in the file, and returns one, named `scores`.
        inputs: at least two rows.
        record: goes to the metadata.

    Raises:
        CheckpointError: the exporter cannot take the model; the message says why.
    """
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                model,
                (inputs[:2],),
                input_names=["images"],
                output_names=["scores"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                dynamo=True,
                verbose=False,
            )
        content = program.model_proto
    except Exception as error:  # whatever the user's model does that cannot be traced
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"torch.onnx cannot take the model: {type(error).__name__}: {reason}") from error
    for node in [*content.graph.node, *(node for function in content.functions for node in function.node)]:
        del node.metadata_props[:]  # traces, which name folders of this machine
    for value in (*content.graph.value_info, *content.graph.input, *content.graph.output, *content.graph.initializer):
        del value.metadata_props[:]
    content.metadata_props.add(key=RECORD, value=record)
    if content.ByteSize() > _MOST_BYTES:
        raise CheckpointError("the model has more than 2 GiB, which an .onnx file cannot hold: export it as pt2")
    return content.SerializeToString()


def check_onnx(data: Any) -> tuple[bytes, str]:
    """Checks a file of ONNX.

    Returns:
        Its content, and the record in its metadata.

    Raises:
        UnavailableError: the packages of the extra `export` are not installed.
        UnsafeFileError: it names other files, which would be read.
        CheckpointError: it is damaged, or says nothing of classes and preprocessing.
    """
    require_onnx()
    import onnx
    from onnx.external_data_helper import uses_external_data

    content = bytes(data)
    try:
        model = onnx.load_model_from_string(content)
        tensors = list(_tensors(model))
    except Exception as error:  # of Protocol Buffers
        raise DamagedCheckpointError(f"it is not a file of ONNX ({type(error).__name__})") from None
    for tensor in tensors:
        if uses_external_data(tensor) or tensor.external_data:
            named = {entry.key: entry.value for entry in tensor.external_data}
            raise UnsafeFileError(
                f"the numbers of its tensor {printable(tensor.name)[:80]!r} are in another file, "
                f"{printable(named.get('location', ''))[:80]!r}: save it with external_data=False"
            )
    found = [entry.value for entry in model.metadata_props if entry.key == RECORD]
    if len(found) != 1:
        raise CheckpointError(
            f"it has no {RECORD} in its metadata: it was not written by `ray-classy export`, and says nothing of "
            f"classes and preprocessing"
        )
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise CheckpointError(
            f"it has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs, and one of each is used"
        )
    return content, found[0]


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors of numbers in a model, also those within nodes, their graphs, and functions."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for one in nodes.pop().attribute:
            graphs += [*([one.g] if one.HasField("g") else []), *one.graphs]
            yield from [*([one.t] if one.HasField("t") else []), *one.tensors]
            sparse = [*([one.sparse_tensor] if one.HasField("sparse_tensor") else []), *one.sparse_tensors]
            yield from (part for each in sparse for part in (each.values, each.indices))


class OnnxModel(nn.Module):
    """A file of ONNX as a module, which onnxruntime runs: on a GPU where it is built for one, else on the CPU.

    Args:
        content: of the file.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content
        self._session = self._opened("CPUExecutionProvider")

    def _opened(self, provider: str) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(self._content, options, providers=[provider])
        except Exception as error:  # of onnxruntime, which has a class for each kind
            raise DamagedCheckpointError(f"onnxruntime cannot load it: {_line(error)}") from None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        name = self._session.get_inputs()[0].name
        try:
            (scores,) = self._session.run(None, {name: images.detach().cpu().numpy()})
        except Exception as error:
            raise RuntimeError(_line(error)) from None
        return torch.from_numpy(scores).to(images.device)

    def to(self, device: Any) -> Self:  # type: ignore[override]
        """Runs the file on a GPU, if the installed onnxruntime can."""
        import onnxruntime

        if torch.device(device).type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            self._session = self._opened("CUDAExecutionProvider")
        return self


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks on its own progress from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
