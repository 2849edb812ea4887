"""What a model remembers of its last call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


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
        self.block_outputs = detached(self.block_outputs)
        self.head_outputs = detached(head_outputs)


def detached(value: Any) -> Any:
    """`value` with every tensor in its mappings, lists and tuples detached."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: detached(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [detached(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value
