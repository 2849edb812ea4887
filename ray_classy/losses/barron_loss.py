"""A robust regression loss whose shape is a parameter."""

from __future__ import annotations

import math
from typing import Literal

import torch

from ray_classy.errors import ComponentError, ShapeError
from ray_classy.losses.classy_loss import ClassyLoss, register_loss


@register_loss("barron")
class BarronLoss(ClassyLoss):
    """The general robust loss of Barron 2017 (arXiv:1701.03077v1), of the difference of prediction and target.

    With d = (prediction - target) / c and z = max(1, 2 - alpha), it is z / alpha * ((d^2 / z + 1)^(alpha / 2) - 1). Its
    limits are d^2 / 2 for alpha 2, log(d^2 / 2 + 1) for alpha 0, and 1 - exp(-d^2 / 2) for an infinite alpha.

    Args:
        alpha: the shape; a smaller one ignores outliers more. A config may write "inf" or "-inf".
        size_average: whether to average over the batch, instead of summing.
        c: the scale, above 0: the loss is quadratic for smaller differences.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(self, alpha: float | Literal["inf", "-inf"], size_average: bool, c: float) -> None:
        super().__init__()
        try:
            self.alpha = float(alpha)
        except (TypeError, ValueError):
            raise ComponentError(f"alpha must be a number, 'inf' or '-inf', not {alpha!r}") from None
        if math.isnan(self.alpha):
            raise ComponentError("alpha must be a number, 'inf' or '-inf', not NaN")
        if not isinstance(size_average, bool):
            raise ComponentError(f"size_average must be true or false, not {size_average!r}")
        if isinstance(c, bool) or not isinstance(c, int | float) or not 0 < c < math.inf:
            raise ComponentError(f"c must be a number above 0, not {c!r}")
        self.size_average = size_average
        self.c = c
        self.z = max(1.0, 2.0 - self.alpha)
        self.reduction = "mean" if size_average else "sum"

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss of each entry, reduced over the batch.

        Args:
            prediction: shape (N, ...).
            target: the same shape, or (N,) for predictions of shape (N, 1).

        Returns:
            Shape (1, ...), which is one number for predictions of shape (N,) or (N, 1).

        Raises:
            ComponentError: the shapes do not match.
        """
        if prediction.shape == (len(target), 1) and target.ndim == 1:
            target = target.unsqueeze(1)
        if prediction.shape != target.shape:
            raise ShapeError(
                f"the loss takes prediction and target of one shape, not {tuple(prediction.shape)} and "
                f"{tuple(target.shape)}"
            )
        loss = self._of_half_squares(((prediction - target) / self.c).square() / 2).sum(0, keepdim=True)
        return loss / len(prediction) if self.size_average else loss

    def _of_half_squares(self, half: torch.Tensor) -> torch.Tensor:
        if math.isinf(self.alpha):
            return -torch.expm1(-half)
        if self.alpha == 0:
            return torch.log1p(half)
        if self.alpha == 2:
            return half
        return self.z / self.alpha * ((2 / self.z * half + 1).pow(self.alpha / 2) - 1)
