"""A head without computation."""

from __future__ import annotations

import torch

from ray_classy.heads.classy_head import ClassyHead, register_head
from ray_classy.registry import Keys


@register_head("identity")
class IdentityHead(ClassyHead):
    """Returns the output of its block unchanged.

    Args:
        unique_id: the head's name, unique within its model; the class's name if None.
        num_classes: the number of classes, if the block's output is class scores.
    """

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys of a config; the number of classes is none of them, for the head cannot change it."""
        return {name: key for name, key in super().config_keys().items() if name != "num_classes"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
