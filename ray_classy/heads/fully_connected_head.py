"""The usual classification head: pooling and a linear layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from ray_classy.errors import ArgumentNameError, ComponentError, ShapeError
from ray_classy.heads.classy_head import NORMALIZE_L2, ClassyHead, check_normalization, check_widths, register_head
from ray_classy.registry import Key, Keys

RELU_IN_PLACE = True
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": lambda: nn.ReLU(inplace=RELU_IN_PLACE), "silu": nn.SiLU}


class _PositionMean(nn.Module):
    """Averages features (N, C, ...) over all positions, and counts as a pooling does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=tuple(range(2, x.ndim))) if x.ndim > 2 else x

    def flops(self, x: torch.Tensor) -> int:
        return x.numel() if x.ndim > 2 else 0


@register_head("fully_connected")
class FullyConnectedHead(ClassyHead):
    """Averages the features over all positions and maps them to class scores with one linear layer.

    Args:
        unique_id: the head's name, unique within its model.
        num_classes: the width of the output; None omits the linear layer, so that the output is the pooled features.
        in_plane: the number of input channels, at least 1; required.
        conv_planes: the number of channels of a 1x1 convolution, with batch norm and activation, before the pooling;
            None omits it.
        activation: the activation after that convolution; in Python also a module.
        zero_init_bias: whether to initialize the bias of the linear layer with zeros.
        normalize_inputs: "l2" scales the pooled features of each sample to unit Euclidean length.

    The input is (N, in_plane), or (N, in_plane, ...) with any number of positions; the output is (N, num_classes).

    Raises:
        ComponentError: a width is less than 1, or `activation` or `normalize_inputs` is unknown; when it is called: the
            input has another number of channels than `in_plane`.
    """

    def __init__(
        self,
        unique_id: str | None,
        num_classes: int | None = None,
        in_plane: int | None = None,
        conv_planes: int | None = None,
        activation: Literal["relu", "silu"] | nn.Module | None = "relu",
        zero_init_bias: bool = False,
        normalize_inputs: Literal["l2"] | None = None,
    ) -> None:
        super().__init__(unique_id, num_classes)
        if in_plane is None:
            raise ArgumentNameError(f"head {self.unique_id!r} has no `in_plane`, the number of its input channels")
        check_widths(self, in_plane=in_plane)
        check_widths(self, optional=True, num_classes=num_classes, conv_planes=conv_planes)
        check_normalization(self, normalize_inputs)
        self.in_plane = in_plane
        self.normalize_inputs = normalize_inputs
        self.activation = self._made(activation)
        self.conv: nn.Module | None = None
        self.bn: nn.Module | None = None
        if conv_planes is not None:
            if self.activation is None:
                raise ComponentError(f"head {unique_id!r} has conv_planes, so its activation cannot be None")
            self.conv = nn.Conv2d(in_plane, conv_planes, kernel_size=1, bias=False)
            self.bn = nn.BatchNorm2d(conv_planes)
        self.avgpool = _PositionMean()
        self.fc: nn.Linear | None = None
        if num_classes is not None:
            self.fc = nn.Linear(conv_planes or in_plane, num_classes)
            if zero_init_bias:
                nn.init.zeros_(self.fc.bias)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments as a config writes them, and `fork_block`."""
        activation = Key(Literal["relu", "silu"], "relu")
        return {**super().config_keys(), "unique_id": Key(str), "in_plane": Key(int), "activation": activation}

    def _made(self, activation: str | nn.Module | None) -> nn.Module | None:
        if activation is None or isinstance(activation, nn.Module):
            return activation
        if activation not in _ACTIVATIONS:
            raise ComponentError(f"activation of head {self.unique_id!r} is {activation!r}; choose 'relu' or 'silu'")
        return _ACTIVATIONS[activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim > 1 and x.shape[1] != self.in_plane and (self.conv is not None or self.fc is not None):
            raise ShapeError(
                f"head {self.unique_id!r} reads {x.shape[1]} channels, and its in_plane is {self.in_plane}: set "
                f"in_plane to {x.shape[1]}, or another fork_block"
            )
        if self.conv is not None:
            assert self.bn is not None and self.activation is not None
            x = self.activation(self.bn(self.conv(x)))
        x = self.avgpool(x)
        if self.normalize_inputs == NORMALIZE_L2:
            x = nn.functional.normalize(x, p=2.0, dim=1)
        return x if self.fc is None else self.fc(x)
