"""Defines a custom model and a custom loss; examples/my_model.yaml names this module under `imports`."""

import torch
from torch import nn
from torch.nn import functional as F

from ray_classy.losses import ClassyLoss, register_loss
from ray_classy.models import ClassyModel, register_model


@register_model("small_cnn")
class SmallCNN(ClassyModel):
    """Stacks 3x3 convolutions with batch norm and ReLU; heads attach to the block `features`.

    The constructor's arguments are the config's keys.

    Args:
        in_planes: input channels.
        planes: output channels of each convolution; all but the first halve height and width. Default: [16, 32].
    """

    def __init__(self, in_planes: int = 1, planes: list[int] | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, width in enumerate(planes or [16, 32]):
            stride = 1 if index == 0 else 2
            layers += [nn.Conv2d(in_planes, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            in_planes = width
        self.features = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


@register_loss("focal")
class FocalLoss(ClassyLoss):
    """Focal loss: cross entropy that gives well-classified rows less weight (Lin et al. 2017, arXiv:1708.02002).

    Args:
        gamma: strength of the weighting, at least 0; 0 is plain cross entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        cross_entropy = F.cross_entropy(output, target, reduction="none")
        return ((1 - torch.exp(-cross_entropy)) ** self.gamma * cross_entropy).mean()
