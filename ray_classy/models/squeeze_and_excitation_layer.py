"""Squeeze and excitation."""

from __future__ import annotations

from torch import nn
from torchvision.ops import SqueezeExcitation

from ray_classy.errors import ComponentError


class SqueezeAndExcitationLayer(SqueezeExcitation):
    """Scales each channel by a gate computed from the channel means (Hu et al. 2018, arXiv:1709.01507).

    Args:
        in_planes: number of channels of input and output.
        reduction_ratio: how many times fewer channels the gate's hidden layer has.
        reduced_planes: number of channels of that layer, instead of the ratio.
        activation: of that layer; ReLU if None.

    Raises:
        ComponentError: the hidden layer would have no channel.
    """

    def __init__(
        self,
        in_planes: int,
        reduction_ratio: int | None = 16,
        reduced_planes: int | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        if reduced_planes is None:
            reduced_planes = in_planes // reduction_ratio if reduction_ratio and reduction_ratio > 0 else 0
        if reduced_planes < 1:
            raise ComponentError(
                f"squeeze and excitation of {in_planes} planes with reduction ratio {reduction_ratio} leaves "
                f"no plane; choose a ratio from 1 to {in_planes}"
            )
        super().__init__(in_planes, reduced_planes, activation=nn.ReLU if activation is None else lambda: activation)
