"""A model and a loss of one's own; examples/my_model.yaml names this module under `imports`."""

import torch
from torch import nn
from torch.nn import functional as F

from ray_classy.losses import ClassyLoss, register_loss
from ray_classy.models import ClassyModel, register_model


@register_model("small_cnn")
class SmallCNN(ClassyModel):
    """Convolutions of 3x3, each with batch norm and ReLU; heads read the block `features`.

    The config's keys are the arguments of the constructor.

    Args:
        in_planes: channels of the input.
        planes: channels of each convolution; every one but the first halves height and width.
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
    """Cross entropy that counts rows less the better they are classified (Lin et al. 2017, arXiv:1708.02002).

    Args:
        gamma: how much less; 0 is plain cross entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        cross_entropy = F.cross_entropy(output, target, reduction="none")
        return ((1 - torch.exp(-cross_entropy)) ** self.gamma * cross_entropy).mean()
