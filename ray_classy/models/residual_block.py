"""The residual blocks of ResNet and ResNeXt."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """A residual block of any shape; `residual_block` prefers torchvision's.

    Args:
        in_planes: number of input channels.
        out_planes: number of output channels.
        stride: how much smaller the output is in each direction.
        width: channels of the 3x3 convolution of a bottleneck; None makes a basic block of two 3x3 convolutions.
        groups: groups of the bottleneck's 3x3 convolution.
        final_bn_relu: normalise the branch's output and apply ReLU to the sum.
        se_reduction_ratio: reduction ratio of squeeze and excitation at the end of the branch; None leaves it out.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        stride: int,
        width: int | None,
        groups: int,
        final_bn_relu: bool,
        se_reduction_ratio: int | None,
    ) -> None:
        super().__init__()
        if width is None:
            convolutions = [_conv(in_planes, out_planes, 3, stride), _conv(out_planes, out_planes, 3)]
        else:
            convolutions = [
                _conv(in_planes, width, 1),
                _conv(width, width, 3, stride, groups),
                _conv(width, out_planes, 1),
            ]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, convolution in enumerate(convolutions, start=1):
            last = i == len(convolutions)
            layers[f"conv{i}"] = convolution
            if final_bn_relu or not last:
                layers[f"bn{i}"] = nn.BatchNorm2d(convolution.out_channels)
            if not last:
                layers[f"relu{i}"] = nn.ReLU(inplace=True)
        self.last_norm = f"branch.bn{len(convolutions)}" if final_bn_relu else None
        if se_reduction_ratio is not None:
            from ray_classy.models.squeeze_and_excitation_layer import SqueezeAndExcitationLayer

            layers["se"] = SqueezeAndExcitationLayer(out_planes, se_reduction_ratio)
        self.branch = nn.Sequential(layers)
        self.downsample = _shortcut(in_planes, out_planes, stride)
        self.relu = nn.ReLU(inplace=True) if final_bn_relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.branch(x) + shortcut)


def residual_block(
    in_planes: int,
    out_planes: int,
    stride: int = 1,
    width: int | None = None,
    groups: int = 1,
    final_bn_relu: bool = True,
    se_reduction_ratio: int | None = None,
) -> nn.Module:
    """Builds a residual block; torchvision's own class where it has that network.

    Args:
        in_planes, out_planes, stride, width, groups, final_bn_relu, se_reduction_ratio: as for `ResidualBlock`.
    """
    if final_bn_relu and se_reduction_ratio is None:
        from torchvision.models.resnet import BasicBlock, Bottleneck  # seconds: only when a model is built

        shortcut = _shortcut(in_planes, out_planes, stride)
        if width is None:
            return BasicBlock(in_planes, out_planes, stride, shortcut)
        planes, rest = divmod(out_planes, Bottleneck.expansion)
        # torchvision's block has planes / 64 * base_width * groups channels in the middle.
        base_width, odd = divmod(64 * width, planes * groups) if planes else (0, 1)
        if not rest and not odd:
            return Bottleneck(in_planes, planes, stride, shortcut, groups, base_width)
    return ResidualBlock(in_planes, out_planes, stride, width, groups, final_bn_relu, se_reduction_ratio)


def zero_last_batch_norm(block: nn.Module) -> None:
    """Makes a new block start as the identity (Goyal et al. 2017, arXiv:1706.02677), if it ends in a batch norm."""
    if isinstance(block, ResidualBlock):
        norm = block.last_norm
    else:
        norm = "bn3" if hasattr(block, "bn3") else "bn2"
    if norm is not None:
        nn.init.zeros_(block.get_parameter(f"{norm}.weight"))


def _conv(in_planes: int, out_planes: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, out_planes, size, stride, padding=size // 2, groups=groups, bias=False)


def _shortcut(in_planes: int, out_planes: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_planes == out_planes:
        return None
    return nn.Sequential(_conv(in_planes, out_planes, 1, stride), nn.BatchNorm2d(out_planes))
