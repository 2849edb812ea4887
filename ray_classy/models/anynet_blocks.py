"""The stems and residual blocks of AnyNet and RegNet."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

import torch
from torch import nn

RELU_IN_PLACE = True


class _Norm:
    """Makes batch norms of one kind."""

    def __init__(self, epsilon: float, momentum: float) -> None:
        self.epsilon, self.momentum = epsilon, momentum

    def __call__(self, width: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(width, eps=self.epsilon, momentum=self.momentum)


def _conv(width_in: int, width_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


class _Stem(nn.Sequential):
    """A convolution, batch norm and an activation.

    Args:
        width_in: number of channels of an input.
        width_out: number of channels after the stem.
        bn_epsilon: epsilon of the batch norm.
        bn_momentum: momentum of the batch norm.
        activation: module, which may be shared.
    """

    KERNEL: ClassVar[int] = 3
    STRIDE: ClassVar[int] = 2

    stem: nn.Sequential

    def __init__(
        self, width_in: int, width_out: int, bn_epsilon: float, bn_momentum: float, activation: nn.Module
    ) -> None:
        norm = _Norm(bn_epsilon, bn_momentum)(width_out)
        layers = nn.Sequential(_conv(width_in, width_out, self.KERNEL, self.STRIDE), norm, activation)
        super().__init__(OrderedDict(stem=layers))


class SimpleStemIN(_Stem):
    """A 3x3 convolution with stride 2."""


class ResStemCifar(_Stem):
    """A 3x3 convolution that keeps the size, for small images."""

    STRIDE = 1


class ResStemIN(_Stem):
    """ResNet's stem: a 7x7 convolution and a max pooling, each with stride 2."""

    KERNEL = 7

    def __init__(
        self, width_in: int, width_out: int, bn_epsilon: float, bn_momentum: float, activation: nn.Module
    ) -> None:
        super().__init__(width_in, width_out, bn_epsilon, bn_momentum, activation)
        self.stem.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))


class VanillaBlock(nn.Sequential):
    """Two 3x3 convolutions without a shortcut.

    Args:
        width_in: number of channels of an input.
        width_out: number of channels of an output.
        stride: how much smaller the output is in each direction.
        bn_epsilon: epsilon of the batch norms.
        bn_momentum: momentum of the batch norms.
        activation: module, which may be shared.
        args, kwargs: arguments of other blocks, which have no effect here.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        bn_epsilon: float,
        bn_momentum: float,
        activation: nn.Module,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        norm = _Norm(bn_epsilon, bn_momentum)
        super().__init__(
            OrderedDict(
                a=nn.Sequential(_conv(width_in, width_out, 3, stride), norm(width_out), activation),
                b=nn.Sequential(_conv(width_out, width_out, 3), norm(width_out), activation),
            )
        )
        self.depth = 2


class BasicTransform(nn.Sequential):
    """Two 3x3 convolutions; arguments as for `VanillaBlock`."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        bn_epsilon: float,
        bn_momentum: float,
        activation: nn.Module,
    ) -> None:
        norm = _Norm(bn_epsilon, bn_momentum)
        first = (_conv(width_in, width_out, 3, stride), norm(width_out), activation)
        super().__init__(OrderedDict(a=nn.Sequential(*first, _conv(width_out, width_out, 3)), final_bn=norm(width_out)))
        self.depth = 2


class BottleneckTransform(nn.Sequential):
    """A 1x1, a grouped 3x3 and a 1x1 convolution, with squeeze and excitation before the last one.

    Args:
        width_in, width_out, stride, bn_epsilon, bn_momentum, activation: as for `VanillaBlock`.
        group_width: number of channels of a group of the 3x3 convolution.
        bottleneck_multiplier: channels in the middle per output channel.
        se_ratio: channels of the gate's hidden layer per input channel of the block; None leaves the gate out.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        bn_epsilon: float,
        bn_momentum: float,
        activation: nn.Module,
        group_width: int,
        bottleneck_multiplier: float,
        se_ratio: float | None,
    ) -> None:
        norm = _Norm(bn_epsilon, bn_momentum)
        middle = round(width_out * bottleneck_multiplier)
        grouped = _conv(middle, middle, 3, stride, groups=middle // group_width)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            a=nn.Sequential(_conv(width_in, middle, 1), norm(middle), activation),
            b=nn.Sequential(grouped, norm(middle), activation),
        )
        if se_ratio:
            # It is torchvision's, which takes seconds to import: only when a model is built.
            from ray_classy.models.squeeze_and_excitation_layer import SqueezeAndExcitationLayer

            hidden = round(se_ratio * width_in)
            layers["se"] = SqueezeAndExcitationLayer(middle, reduced_planes=hidden, activation=activation)
        layers["c"] = _conv(middle, width_out, 1)
        layers["final_bn"] = norm(width_out)
        super().__init__(layers)
        self.depth = 4 if se_ratio else 3


class _Shortcut(nn.Module):
    """Adds a block's input to its output, through a 1x1 convolution where their shapes differ."""

    f: nn.Module
    activation: nn.Module

    def _add_projection(self, width_in: int, width_out: int, stride: int, norm: _Norm) -> None:
        self.proj, self.bn = None, None
        if width_in != width_out or stride != 1:
            self.proj, self.bn = _conv(width_in, width_out, 1, stride), norm(width_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.proj is None or self.bn is None else self.bn(self.proj(x))
        return self.activation(shortcut + self.f(x))


class ResBasicBlock(_Shortcut):
    """A residual block of two 3x3 convolutions; arguments as for `VanillaBlock`."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        bn_epsilon: float,
        bn_momentum: float,
        activation: nn.Module,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self._add_projection(width_in, width_out, stride, _Norm(bn_epsilon, bn_momentum))
        self.f = BasicTransform(width_in, width_out, stride, bn_epsilon, bn_momentum, activation)
        self.activation = activation
        self.depth = self.f.depth


class ResBottleneckBlock(_Shortcut):
    """A residual bottleneck; arguments as for `BottleneckTransform`."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        bn_epsilon: float,
        bn_momentum: float,
        activation: nn.Module,
        group_width: int = 1,
        bottleneck_multiplier: float = 1.0,
        se_ratio: float | None = None,
    ) -> None:
        super().__init__()
        self._add_projection(width_in, width_out, stride, _Norm(bn_epsilon, bn_momentum))
        options = (bn_epsilon, bn_momentum, activation, group_width, bottleneck_multiplier, se_ratio)
        self.f = BottleneckTransform(width_in, width_out, stride, *options)
        self.activation = activation
        self.depth = self.f.depth


class ResBottleneckLinearBlock(nn.Module):
    """A bottleneck without an activation at its end, with a shortcut only where the shape stays the same.

    Arguments as for `BottleneckTransform`.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        bn_epsilon: float,
        bn_momentum: float,
        activation: nn.Module,
        group_width: int = 1,
        bottleneck_multiplier: float = 4.0,
        se_ratio: float | None = None,
    ) -> None:
        super().__init__()
        self.has_skip = width_in == width_out and stride == 1
        options = (bn_epsilon, bn_momentum, activation, group_width, bottleneck_multiplier, se_ratio)
        self.f = BottleneckTransform(width_in, width_out, stride, *options)
        self.depth = self.f.depth

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.f(x) if self.has_skip else self.f(x)
