"""A head without computation."""

from __future__ import annotations

import torch

from ray_classy.heads.classy_head import ClassyHead, register_head


@register_head("identity")
class IdentityHead(ClassyHead):
    """Returns the output of its block unchanged.

    Args:
        unique_id: the head's name, unique within its model.
    """

    def __init__(self, unique_id: str) -> None:
        super().__init__(unique_id)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
