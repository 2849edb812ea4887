"""The networks of airbench, which learn CIFAR-10 within seconds."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models.classy_model import ClassyModel, register_model
from ray_classy.models.whitening import WhiteningConv2d


@register_model("airbench")
class Airbench(ClassyModel):
    """A whitening convolution and three groups of two or three 3x3 convolutions (Jordan 2024, arXiv:2404.00498).

    Each group halves height and width by max pooling after its first convolution. Convolutions start as the identity
    of as many channels as they have; the weights of batch norm are ones and are not trained. Heads read the block
    `features`. The hook `whitening` makes the first convolution of the training images.

    Args:
        widths: output channels of each group.
        residual: groups of three convolutions, the last two of which have a skip connection around them.
        output_scale: factor of the features, and so of the scores of a linear head.
        batch_norm_momentum: weight of the current batch in the moving statistics, in (0, 1].

    The input is (N, 3, H, W), the output (N, widths[-1]): the maximum of each channel.

    Raises:
        ComponentError: a width is less than 1, there is no group, or the momentum is out of its range.
    """

    def __init__(
        self,
        widths: list[int] | None = None,
        residual: bool = False,
        output_scale: float = 1 / 9,
        batch_norm_momentum: float = 0.4,
    ) -> None:
        super().__init__()
        widths = [64, 256, 256] if widths is None else list(widths)
        if not widths or not all(type(width) is int and width >= 1 for width in widths):
            raise ComponentError(f"widths of airbench is {widths}; expected integers of at least 1, one per group")
        if not 0 < batch_norm_momentum <= 1:
            raise ComponentError(f"batch_norm_momentum of airbench is {batch_norm_momentum}; it must be in (0, 1]")
        self.output_scale = output_scale
        self.whitening = WhiteningConv2d()
        self.activation = nn.GELU()
        groups: OrderedDict[str, nn.Module] = OrderedDict()
        planes = self.whitening.out_channels
        for number, width in enumerate(widths):
            groups[f"group{number}"] = _Group(planes, width, residual, batch_norm_momentum)
            planes = width
        self.groups = nn.Sequential(groups)
        self.features = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.groups(self.activation(self.whitening(x)))
        return self.features(x.amax(dim=(2, 3)) * self.output_scale)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, 32, 32)


class _Group(nn.Module):
    """Convolutions with batch norm and GELU.

    Args:
        in_planes: channels of the input.
        planes: channels of the output.
        residual: whether there are three convolutions, with a skip connection around the last two.
        momentum: of batch norm.
    """

    def __init__(self, in_planes: int, planes: int, residual: bool, momentum: float) -> None:
        super().__init__()
        self.conv1, self.norm1 = _convolution(in_planes, planes), _norm(planes, momentum)
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.norm2 = _convolution(planes, planes), _norm(planes, momentum)
        self.conv3: nn.Module | None = None
        if residual:
            self.conv3, self.norm3 = _convolution(planes, planes), _norm(planes, momentum)
        self.activation = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        skipped = x
        x = self.norm2(self.conv2(x))
        if self.conv3 is not None:
            x = self.norm3(self.conv3(self.activation(x))) + skipped
        return self.activation(x)


def _convolution(in_planes: int, planes: int) -> nn.Conv2d:
    convolution = nn.Conv2d(in_planes, planes, kernel_size=3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[:in_planes])
    return convolution


def _norm(planes: int, momentum: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(planes, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad = False
    return norm
