"""Estimates the memory that training a model takes, from shapes alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

_PER_PARAMETER = 24
"""Bytes of a parameter, its gradient, Adam's two averages, the copy of the gradient that is sent to other ranks, and
what an update computes with, of float32 each."""
_BESIDE = 1.25
"""What gradients of activations, workspaces of convolutions and gaps between blocks add to the activations."""


class TrainingMemory(NamedTuple):
    """Bytes that training takes.

    Attributes:
        fixed: of weights, gradients and the state of the optimizer.
        per_row: of the activations that a row's backward pass needs, in float32.
    """

    fixed: int
    per_row: int

    def rows_within(self, memory: int) -> int:
        """Returns the rows of a step that fit into so many bytes; 0 if not even the weights do."""
        return max(0, memory - self.fixed) // max(1, self.per_row)


def training_memory(model: nn.Module, input_shape: tuple[int, ...]) -> TrainingMemory:
    """Estimates the memory that a training step takes.

    The activations are the tensors that autograd saves in a forward pass, each once.

    Args:
        model: on any device; it is run on the meta device, where nothing is computed and no memory is taken. It is in
            train mode afterwards.
        input_shape: of a row, without the batch dimension.
    """
    state = {
        name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    own = {tensor.untyped_storage()._cdata for tensor in state.values()}
    saved: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage  # which stays alive, so that its address is not used again
        return tensor

    rows = 2  # batch norm refuses a single row
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        torch.func.functional_call(model, state, (torch.zeros(rows, *input_shape, device="meta"),))
    activations = sum(storage.nbytes() for key, storage in saved.items() if key not in own)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return TrainingMemory(_PER_PARAMETER * parameters, int(_BESIDE * activations / rows))
