"""A loss. The arguments of its constructor are the keys of its config."""

import torch
from torch.nn import functional as F

from ray_classy.losses import ClassyLoss, register_loss


@register_loss("cross_entropy_with_temperature")
class CrossEntropyWithTemperature(ClassyLoss):
    """Cross entropy of the outputs divided by a temperature.

    Args:
        temperature: above 0; 1 is plain cross entropy.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output / self.temperature, target)
