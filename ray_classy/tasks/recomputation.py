"""Gradient checkpointing: a block's activations are computed again in the backward pass instead of being kept.

Chen et al., "Training deep nets with sublinear memory cost", 2016 (arXiv:1604.06174).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from ray_classy.errors import ComponentError
from ray_classy.models.head_points import in_trunk

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class RecomputedBlocks:
    """The blocks of a model whose activations are not kept.

    Only calls within `applied` are recomputed; the model itself, its names and its copies stay as they are. The result
    is the same to the last bit: random numbers are drawn again from the same state, and batch norm updates its moving
    averages once.

    Args:
        model: has blocks.

    Attributes:
        model: the model.
        blocks: its blocks.

    Raises:
        ComponentError: it has no block of several layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.blocks = list({id(block): block for block in blocks_of(model)}.values())
        if not self.blocks:
            raise ComponentError(
                f"gradient_checkpointing: {type(model).__name__} has no blocks of several layers, whose activations "
                f"could be computed again: leave it out"
            )
        self._norms = [[one for one in block.modules() if isinstance(one, _NormBase)] for block in self.blocks]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Recomputes the blocks that the model runs in this context; the backward pass may come later."""
        if not torch.is_grad_enabled():
            yield
            return
        for block, norms in zip(self.blocks, self._norms, strict=True):
            contexts = partial(_contexts, norms)
            forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
            vars(block)["forward"] = forward  # a call of a module finds it there; `__setattr__` would take longer
        try:
            yield
        finally:
            for block in self.blocks:
                del vars(block)["forward"]


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the blocks of a model's trunk: residual blocks, layers of a transformer and the like.

    They are the modules of several layers below containers, and below modules with more than half of all parameters. A
    container of single layers is a block itself, unless it is that large.
    """
    total = _size(model)

    def walk(module: nn.Module, prefix: str = "") -> Iterator[nn.Module]:
        for name, child in module.named_children():
            path = prefix + name
            if not in_trunk(path) or next(child.children(), None) is None:
                continue
            large = 2 * _size(child) > total
            torchs = type(child).__module__.startswith("torch.nn.") and not isinstance(child, _CONTAINERS)
            inner = list(walk(child, f"{path}.")) if (large and not torchs) or isinstance(child, _CONTAINERS) else []
            if inner:
                yield from inner
            elif _size(child) and type(child).forward is not nn.Module.forward and not (large and not torchs):
                yield child

    return walk(model)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _contexts(norms: list[_NormBase]) -> tuple[contextlib.AbstractContextManager[Any], Any]:
    return contextlib.nullcontext(), _averages_kept(norms)


@contextlib.contextmanager
def _averages_kept(norms: list[_NormBase]) -> Iterator[None]:
    """Lets batch norm normalize by the batch without counting it in its moving averages a second time."""
    tracking = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.training]
    for norm, _, _ in tracking:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in tracking:
            norm.momentum, norm.num_batches_tracked = momentum, batches
