"""A multi-layer perceptron."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models.classy_model import ClassyModel, register_model


@register_model("mlp")
class MLP(ClassyModel):
    """Linear layers with ReLU in between; the input is flattened.

    Args:
        input_dim: number of values of one input.
        output_dim: number of values of one output.
        hidden_dims: widths of the hidden layers; may be empty.
        dropout: probability in [0, 1) with which the output of a hidden layer is zeroed while training.
        first_dropout: drop values of the input as well.
        use_batchnorm: normalise the hidden layers before their ReLU.
        first_batchnorm: normalise the input as well; needs `use_batchnorm`.

    The input is (N, ...) with `input_dim` values a sample; the output is (N, output_dim).

    Raises:
        ComponentError: a width is not positive, a probability is outside its range, or `first_batchnorm` is alone.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dims: list[int],
        dropout: float = 0.0,
        first_dropout: bool = False,
        use_batchnorm: bool = False,
        first_batchnorm: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(hidden_dims, list | tuple):
            raise ComponentError(f"hidden_dims of an mlp is {hidden_dims!r}; expected a list of widths")
        widths = [input_dim, *hidden_dims, output_dim]
        if not all(type(width) is int and width > 0 for width in widths):
            raise ComponentError(f"the widths of an mlp are {widths}; each must be an integer of at least 1")
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise ComponentError(f"dropout of an mlp is {dropout!r}; it must be in [0, 1)")
        if first_batchnorm and not use_batchnorm:
            raise ComponentError("first_batchnorm of an mlp needs use_batchnorm: set both, or neither")
        layers: list[nn.Module] = []
        if first_dropout and dropout:
            layers.append(nn.Dropout(dropout))
        if first_batchnorm:
            layers.append(nn.BatchNorm1d(input_dim))
        for before, after in pairwise(widths[:-1]):
            layers.append(nn.Linear(before, after))
            if use_batchnorm:
                layers.append(nn.BatchNorm1d(after))
            if dropout:
                layers.append(nn.Dropout(dropout))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Linear(widths[-2], output_dim))
        self.mlp = nn.Sequential(*layers)
        self.input_dim = input_dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x.flatten(1))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.input_dim,)
