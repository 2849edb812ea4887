"""A module that remembers its last output."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn


def stateless() -> bool:
    """Whether the environment asks that outputs of blocks are not kept: CLASSY_BLOCK_STATELESS=1."""
    return os.environ.get("CLASSY_BLOCK_STATELESS") == "1"


class ClassyBlock(nn.Module):
    """Calls a module and keeps its last output, for code that wraps a part of a network to look at what it computes.

    Heads need no such block: `ClassyModel.set_heads` reads the outputs of the network's own modules.

    Args:
        name: of the block.
        module: is called.

    Attributes:
        name: of the block.
        output: the last output; an empty tensor before the first call, and always with CLASSY_BLOCK_STATELESS=1.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.output: Any = torch.zeros(0)
        self._module = module
        self._is_output_stateless = stateless()

    def wrapped_module(self) -> nn.Module:
        """Returns the module that is called."""
        return self._module

    def forward(self, input: Any) -> Any:
        output = self._module(input)
        if not self._is_output_stateless:
            self.output = output
        return output
