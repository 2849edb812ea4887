"""A model. The arguments of its constructor are the keys of its config."""

import torch
from torch import nn

from ray_classy.models import ClassyModel, register_model


@register_model("two_convolutions")
class TwoConvolutions(ClassyModel):
    """Two convolutions and a linear layer.

    Args:
        width: channels of the convolutions.
        num_classes: outputs.
    """

    def __init__(self, width: int = 8, num_classes: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (1, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
