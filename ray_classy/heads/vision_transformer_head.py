"""The classification head of vision transformers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from ray_classy.errors import ShapeError
from ray_classy.heads.classy_head import NORMALIZE_L2, ClassyHead, check_normalization, check_widths, register_head


@register_head("vision_transformer_head")
class VisionTransformerHead(ClassyHead):
    """Maps the token of a sample to class scores (Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1).

    The linear layer of the scores starts with zeros.

    Args:
        unique_id: the head's name, unique within its model.
        in_plane: the width of the input, at least 1.
        num_classes: the width of the output; None omits all layers.
        hidden_dim: the width of a linear layer with tanh before the scores; None omits it.
        normalize_inputs: "l2" scales each input to unit Euclidean length.

    The input is (N, in_plane), the output (N, num_classes).

    Raises:
        ComponentError: a width is less than 1, or `normalize_inputs` is unknown; when it is called: the input has
            another width than `in_plane`.
    """

    def __init__(
        self,
        unique_id: str | None,
        in_plane: int,
        num_classes: int | None = None,
        hidden_dim: int | None = None,
        normalize_inputs: Literal["l2"] | None = None,
    ) -> None:
        super().__init__(unique_id, num_classes)
        check_widths(self, in_plane=in_plane)
        check_widths(self, optional=True, num_classes=num_classes, hidden_dim=hidden_dim)
        check_normalization(self, normalize_inputs)
        self.in_plane = in_plane
        self.normalize_inputs = normalize_inputs
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if num_classes is not None and hidden_dim is not None:
            layers["pre_logits"] = nn.Linear(in_plane, hidden_dim)
            layers["act"] = nn.Tanh()
        if num_classes is not None:
            layers["head"] = nn.Linear(hidden_dim or in_plane, num_classes)
        self.layers = nn.Sequential(layers)
        self.init_weights()

    def init_weights(self) -> None:
        """Initializes the hidden layer with variance 1/in_plane (LeCun et al. 1998), and all else with zeros."""
        hidden, head = getattr(self.layers, "pre_logits", None), getattr(self.layers, "head", None)
        if hidden is not None:
            nn.init.normal_(hidden.weight, std=self.in_plane**-0.5)
            nn.init.zeros_(hidden.bias)
        if head is not None:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.layers) and x.shape[-1] != self.in_plane:
            raise ShapeError(
                f"head {self.unique_id!r} reads features of width {x.shape[-1]}, and its in_plane is {self.in_plane}: "
                f"set in_plane to {x.shape[-1]}, or another fork_block"
            )
        if self.normalize_inputs == NORMALIZE_L2:
            x = nn.functional.normalize(x, p=2.0, dim=1)
        return self.layers(x)
