"""Random transforms in several threads at once, each row with its own random numbers.

Transforms draw from the generators of the process, which its threads share. Those that draw from torch's generator
alone can be redirected: torch lets a thread intercept its own calls. The numbers are the same as if the process had
been seeded for the row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWING = {
    torch.rand,
    torch.randint,
    torch.randn,
    torch.randperm,
    torch.multinomial,
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
}


class ThreadGenerator(TorchFunctionMode):
    """Makes this thread draw from a separate generator within the block.

    It serves transforms that declare `draws = "torch"`: `torch.rand`, `randint`, `randn`, `randperm`, `multinomial` and
    a tensor's `uniform_` and `normal_` are redirected.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def seed(self, seed: int) -> None:
        """Seeds the generator, for the next row."""
        self.generator.manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWING:
            kwargs = {"generator": self.generator, **kwargs}
        return func(*args, **kwargs)
