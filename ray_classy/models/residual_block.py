"""The stems and residual blocks of ResNet and ResNeXt."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ray_classy.errors import ComponentError

INPLACE = True
"""ReLUs work in place."""


def conv3x3(in_planes: int, out_planes: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Returns a 3x3 convolution that keeps the size, divided by the stride."""
    return nn.Conv2d(in_planes, out_planes, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    """Returns a 1x1 convolution."""
    return nn.Conv2d(in_planes, out_planes, kernel_size=1, stride=stride, bias=False)


class InitialBlock(nn.Sequential):
    """The stem for large images: a 7x7 convolution and a max pooling, each with stride 2.

    Args:
        init_planes: number of output channels.
    """

    def __init__(self, init_planes: int) -> None:
        super().__init__(
            nn.Conv2d(3, init_planes, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(init_planes),
            nn.ReLU(inplace=INPLACE),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )


class SmallInputInitialBlock(nn.Sequential):
    """The stem for small images: a 3x3 convolution.

    Args:
        init_planes: number of output channels.
    """

    def __init__(self, init_planes: int) -> None:
        super().__init__(conv3x3(3, init_planes), nn.BatchNorm2d(init_planes), nn.ReLU(inplace=INPLACE))


class GenericLayer(nn.Module):
    """Adds a branch to its input, which passes a 1x1 convolution and batch norm where the shapes differ.

    Args:
        convolutional_block: the branch up to its last convolution.
        in_planes: number of input channels.
        out_planes: number of output channels.
        stride: how much smaller the output is in each direction.
        mid_planes_and_cardinality: has no effect here: `convolutional_block` has its widths.
        reduction: has no effect here either.
        final_bn_relu: normalise the branch's output and apply ReLU to the sum.
        use_se: end the branch with squeeze and excitation.
        se_reduction_ratio: its reduction ratio.

    Raises:
        ComponentError: a number is not a positive integer.
    """

    def __init__(
        self,
        convolutional_block: nn.Module,
        in_planes: int,
        out_planes: int,
        stride: int = 1,
        mid_planes_and_cardinality: tuple[int, int] | None = None,
        reduction: int = 4,
        final_bn_relu: bool = True,
        use_se: bool = False,
        se_reduction_ratio: int = 16,
    ) -> None:
        super().__init__()
        _check_numbers(in_planes=in_planes, out_planes=out_planes, stride=stride, reduction=reduction)
        layers = OrderedDict(convolutional_block.named_children()) or OrderedDict(conv1=convolutional_block)
        self.last_norm: str | None = None
        if final_bn_relu:
            name = f"bn{sum(isinstance(layer, nn.Conv2d) for layer in layers.values())}"
            self.last_norm = f"branch.{name}"
            layers[name] = nn.BatchNorm2d(out_planes)
        if use_se:
            from ray_classy.models.squeeze_and_excitation_layer import SqueezeAndExcitationLayer

            layers["se"] = SqueezeAndExcitationLayer(out_planes, se_reduction_ratio)
        self.branch = nn.Sequential(layers)
        self.downsample = _shortcut(in_planes, out_planes, stride)
        self.relu = nn.ReLU(inplace=INPLACE) if final_bn_relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.branch(x) + shortcut)


class BasicLayer(GenericLayer):
    """A residual block of two 3x3 convolutions (He et al. 2016, arXiv:1512.03385).

    Args:
        in_planes, out_planes, stride, final_bn_relu, use_se, se_reduction_ratio: as for GenericLayer.
        mid_planes_and_cardinality: has no effect: both convolutions have `out_planes` output channels.
        reduction: has no effect either.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        stride: int = 1,
        mid_planes_and_cardinality: tuple[int, int] | None = None,
        reduction: int = 1,
        final_bn_relu: bool = True,
        use_se: bool = False,
        se_reduction_ratio: int = 16,
    ) -> None:
        _check_numbers(in_planes=in_planes, out_planes=out_planes, stride=stride, reduction=reduction)
        block = _numbered(conv3x3(in_planes, out_planes, stride), conv3x3(out_planes, out_planes))
        widths = (mid_planes_and_cardinality, reduction)
        super().__init__(block, in_planes, out_planes, stride, *widths, final_bn_relu, use_se, se_reduction_ratio)


class BottleneckLayer(GenericLayer):
    """A residual block of 1x1, 3x3 and 1x1 convolutions, with the stride on the second.

    Args:
        in_planes, out_planes, stride, final_bn_relu, use_se, se_reduction_ratio: as for GenericLayer.
        mid_planes_and_cardinality: width of a group and number of groups of the 3x3 convolution; None for one group of
            `out_planes / reduction` channels.
        reduction: how many times fewer channels the 3x3 convolution has than the output.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        stride: int = 1,
        mid_planes_and_cardinality: tuple[int, int] | None = None,
        reduction: int = 4,
        final_bn_relu: bool = True,
        use_se: bool = False,
        se_reduction_ratio: int = 16,
    ) -> None:
        _check_numbers(in_planes=in_planes, out_planes=out_planes, stride=stride, reduction=reduction)
        width, groups = mid_planes_and_cardinality or (out_planes // reduction, 1)
        _check_numbers(width=width, groups=groups)
        middle = width * groups
        block = _numbered(
            conv1x1(in_planes, middle), conv3x3(middle, middle, stride, groups), conv1x1(middle, out_planes)
        )
        widths = (mid_planes_and_cardinality, reduction)
        super().__init__(block, in_planes, out_planes, stride, *widths, final_bn_relu, use_se, se_reduction_ratio)


def residual_block(
    in_planes: int,
    out_planes: int,
    stride: int = 1,
    width_and_groups: tuple[int, int] | None = None,
    final_bn_relu: bool = True,
    se_reduction_ratio: int | None = None,
) -> nn.Module:
    """Builds a residual block; torchvision's own class where it has that network.

    Args:
        in_planes, out_planes, stride, final_bn_relu: as for GenericLayer.
        width_and_groups: the width of a group and the number of groups of the 3x3 convolution of a bottleneck; None
            makes a basic block.
        se_reduction_ratio: reduction ratio of squeeze and excitation at the end of the branch; None leaves it out.
    """
    if final_bn_relu and se_reduction_ratio is None:
        from torchvision.models.resnet import BasicBlock, Bottleneck  # seconds: only when a model is built

        shortcut = _shortcut(in_planes, out_planes, stride)
        if width_and_groups is None:
            return BasicBlock(in_planes, out_planes, stride, shortcut)
        width, groups = width_and_groups
        planes, rest = divmod(out_planes, Bottleneck.expansion)
        # torchvision's block has planes / 64 * base_width * groups channels in the middle.
        base_width, odd = divmod(64 * width, planes) if planes else (0, 1)
        if not rest and not odd:
            return Bottleneck(in_planes, planes, stride, shortcut, groups, base_width)
    kind = BasicLayer if width_and_groups is None else BottleneckLayer
    return kind(
        in_planes,
        out_planes,
        stride,
        width_and_groups,
        final_bn_relu=final_bn_relu,
        use_se=se_reduction_ratio is not None,
        se_reduction_ratio=se_reduction_ratio or 0,
    )


def zero_last_batch_norm(block: nn.Module) -> None:
    """Makes a new block start as the identity (Goyal et al. 2017, arXiv:1706.02677), if it ends in a batch norm."""
    if isinstance(block, GenericLayer):
        norm = block.last_norm
    else:
        norm = "bn3" if hasattr(block, "bn3") else "bn2"
    if norm is not None:
        nn.init.zeros_(block.get_parameter(f"{norm}.weight"))


def _numbered(*convolutions: nn.Conv2d) -> nn.Sequential:
    """Convolutions with batch norm and ReLU between them, named as torchvision does: conv1, bn1, relu1, conv2."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, convolution in enumerate(convolutions, start=1):
        layers[f"conv{i}"] = convolution
        if i < len(convolutions):
            layers[f"bn{i}"] = nn.BatchNorm2d(convolution.out_channels)
            layers[f"relu{i}"] = nn.ReLU(inplace=INPLACE)
    return nn.Sequential(layers)


def _shortcut(in_planes: int, out_planes: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_planes == out_planes:
        return None
    return nn.Sequential(conv1x1(in_planes, out_planes, stride), nn.BatchNorm2d(out_planes))


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ComponentError(f"{name} of a residual block is {value!r}; expected an integer of at least 1")
