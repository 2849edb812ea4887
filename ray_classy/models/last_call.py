"""What a model remembers of its last call."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ray_classy.generic.util import map_tensors
from ray_classy.models.classy_block import stateless


class LastCall:
    """The outputs of the blocks that have heads and of the heads themselves, from one call of the model.

    While the model runs they are part of the autograd graph; `end` detaches them, so that they keep no graph alive.
    Copies and pickles of a model start with an empty record.
    """

    def __init__(self) -> None:
        self.recording = False
        self.block_outputs: dict[str, Any] = {}
        self.head_outputs: dict[str, Any] = {}

    def __reduce__(self) -> tuple[type[LastCall], tuple[()]]:
        return LastCall, ()

    def begin(self) -> None:
        """Forgets the previous call and records block outputs from now on."""
        self.recording = True
        self.block_outputs = {}
        self.head_outputs = {}

    def record(self, block: str, output: Any) -> None:
        """Notes a block's output, unless no call is under way.

        Activation checkpointing runs a block once more during the backward pass; that run is not the model's call.
        """
        if self.recording:
            self.block_outputs[block] = output

    def end(self, head_outputs: dict[str, Any]) -> None:
        """Keeps what the call gave, without its graph."""
        self.recording = False
        self.block_outputs = {} if stateless() else map_tensors(self.block_outputs, torch.Tensor.detach)
        self.head_outputs = map_tensors(head_outputs, torch.Tensor.detach)


# Hooks of a model with heads. The heads run in one, and not in an overridden __call__: wrappers that hook the model
# (FSDP) then see them as part of it.


def record(last_call: LastCall, block: str, module: nn.Module, args: Any, output: Any) -> None:
    """Notes the output of a block."""
    last_call.record(block, output)


def begin_call(model: Any, args: Any) -> None:
    """Begins a call of a model."""
    model._last_call.begin()


def end_call(model: Any, args: Any, output: Any) -> None:
    """Ends a call in which no heads run."""
    model._last_call.end({})


def run_heads(model: Any, args: Any, output: Any) -> Any:
    """Runs the heads, and returns what the model's call returns."""
    outputs = model.execute_heads()
    model._last_call.end(outputs)
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))
