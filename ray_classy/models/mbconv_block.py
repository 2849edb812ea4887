"""The inverted bottleneck of EfficientNet."""

from __future__ import annotations

import torch
from torch import nn

from ray_classy.errors import ComponentError

swish = nn.functional.silu
"""The activation x * sigmoid(x) (arXiv:1710.05941)."""


def drop_connect(inputs: torch.Tensor, is_training: bool, drop_connect_rate: float) -> torch.Tensor:
    """Zeroes rows of a batch at random, and scales the others such that the mean stays (arXiv:1603.09382).

    Args:
        inputs: (N, ...).
        is_training: otherwise nothing is done.
        drop_connect_rate: the probability with which a row is zeroed, in [0, 1].
    """
    from torchvision.ops import stochastic_depth  # seconds: only when a model is built

    return stochastic_depth(inputs, drop_connect_rate, "row", is_training)


def get_same_padding_for_kernel_size(kernel_size: int) -> int:
    """Returns the padding with which a convolution of stride 1 keeps height and width.

    Raises:
        ComponentError: the size is even.
    """
    if kernel_size % 2 == 0:
        raise ComponentError(f"the kernel of a convolution has size {kernel_size}; expected an odd size")
    return kernel_size // 2


class MBConvBlock(nn.Module):
    """Expands the channels, convolves each by itself, gates them and projects them to few.

    Args:
        input_filters: number of input channels.
        output_filters: number of output channels.
        expand_ratio: channels in the middle per input channel; 1 leaves the expansion out.
        kernel_size: of the depthwise convolution, odd.
        stride: how much smaller the output is in each direction.
        se_ratio: channels of the gate's hidden layer per input channel, at least one.
        id_skip: add the input to the output where their shapes are the same.
        use_se: use the gate, squeeze and excitation (Hu et al. 2018, arXiv:1709.01507).
        bn_momentum: momentum of the batch norms.
        bn_epsilon: epsilon of the batch norms.
        drop_connect_rate: probability with which a block that adds its input is skipped for a sample while training.
    """

    def __init__(
        self,
        input_filters: int,
        output_filters: int,
        expand_ratio: float,
        kernel_size: int,
        stride: int,
        se_ratio: float,
        id_skip: bool,
        use_se: bool,
        bn_momentum: float,
        bn_epsilon: float,
        drop_connect_rate: float = 0.0,
    ) -> None:
        super().__init__()

        def norm(planes: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(planes, eps=bn_epsilon, momentum=bn_momentum)

        middle = int(input_filters * expand_ratio)
        self.expand_ratio = expand_ratio
        self.use_se = use_se
        self.id_skip = id_skip and stride == 1 and input_filters == output_filters
        self.relu_fn = nn.SiLU(inplace=True)
        if expand_ratio != 1:
            self.expand_conv = nn.Conv2d(input_filters, middle, kernel_size=1, bias=False)
            self.bn0 = norm(middle)
        padding = get_same_padding_for_kernel_size(kernel_size)
        self.depthwise_conv = nn.Conv2d(middle, middle, kernel_size, stride, padding=padding, groups=middle, bias=False)
        self.bn1 = norm(middle)
        if use_se:
            hidden = max(1, int(input_filters * se_ratio))
            self.se_avgpool = nn.AdaptiveAvgPool2d(1)
            self.se_reduce = nn.Conv2d(middle, hidden, kernel_size=1)
            self.se_expand = nn.Conv2d(hidden, middle, kernel_size=1)
        self.project_conv = nn.Conv2d(middle, output_filters, kernel_size=1, bias=False)
        self.bn2 = norm(output_filters)
        self.drop_connect_rate = drop_connect_rate

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = inputs
        if self.expand_ratio != 1:
            x = self.relu_fn(self.bn0(self.expand_conv(x)))
        x = self.relu_fn(self.bn1(self.depthwise_conv(x)))
        if self.use_se:
            gate = self.se_expand(self.relu_fn(self.se_reduce(self.se_avgpool(x))))
            x = torch.sigmoid(gate) * x
        x = self.bn2(self.project_conv(x))
        if not self.id_skip:
            return x
        if self.drop_connect_rate:
            x = drop_connect(x, self.training, self.drop_connect_rate)
        return x + inputs
