"""The classification head of networks for video clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from ray_classy.errors import ComponentError, ShapeError, UnsupportedOptionError
from ray_classy.heads.classy_head import ClassyHead, check_widths, register_head
from ray_classy.registry import Key, Keys

_ACTIVATIONS = ("softmax", "sigmoid", "identity")


class FullyConvolutionalLinear(nn.Module):
    """A linear layer at every position of a clip's features.

    In train mode the result is the scores of all positions; in evaluation mode it is their activation, averaged over
    the positions.

    Args:
        dim_in: the number of input channels.
        num_classes: the number of scores per position.
        act_func: the activation, "softmax" over the classes, "sigmoid" or "identity".

    Raises:
        UnsupportedOptionError: `act_func` is unknown.
    """

    def __init__(
        self,
        dim_in: int,
        num_classes: int,
        act_func: Literal["softmax", "sigmoid", "identity"] = "softmax",
    ) -> None:
        super().__init__()
        if act_func not in _ACTIVATIONS:
            raise UnsupportedOptionError(
                f"activation_func must be one of {', '.join(map(repr, _ACTIVATIONS))}, not {act_func!r}"
            )
        self.projection = nn.Linear(dim_in, num_classes)
        self.act = {"softmax": nn.Softmax(dim=4), "sigmoid": nn.Sigmoid(), "identity": nn.Identity()}[act_func]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the scores.

        Args:
            x: features of shape (N, dim_in, T, H, W).

        Returns:
            Shape (N, T * H * W * num_classes) in train mode, (N, num_classes) in evaluation mode.
        """
        scores = self.projection(x.permute(0, 2, 3, 4, 1))
        if not self.training:
            scores = self.act(scores).mean((1, 2, 3))
        return scores.flatten(1)


@register_head("fully_convolutional_linear")
class FullyConvolutionalLinearHead(ClassyHead):
    """Pools a clip's features and maps them to class scores at every position that the pooling leaves.

    In evaluation mode the output is class probabilities, averaged over the positions, so that clips may be longer and
    larger than in training (Wang et al. 2018, arXiv:1711.07971, section 4).

    Args:
        unique_id: the head's name, unique within its model.
        num_classes: the number of classes, at least 1.
        in_plane: the number of input channels, at least 1.
        pool_size: size (T, H, W) of the windows that are averaged, which move in steps of 1; None averages over all
            positions.
        activation_func: the activation in evaluation mode: "softmax", "sigmoid" or "identity".
        use_dropout: whether a dropout follows the pooling.
        dropout_ratio: its probability, in [0, 1].

    Raises:
        ComponentError: an argument has an invalid value; when it is called: the input has another shape than (N,
            in_plane, T, H, W), or is smaller than `pool_size`.
    """

    def __init__(
        self,
        unique_id: str | None,
        num_classes: int,
        in_plane: int,
        pool_size: Sequence[int] | None = None,
        activation_func: Literal["softmax", "sigmoid", "identity"] = "softmax",
        use_dropout: bool | None = None,
        dropout_ratio: float = 0.5,
    ) -> None:
        super().__init__(unique_id, num_classes)
        check_widths(self, in_plane=in_plane, num_classes=num_classes)
        if isinstance(dropout_ratio, bool) or not isinstance(dropout_ratio, int | float) or not 0 <= dropout_ratio <= 1:
            raise ComponentError(f"dropout_ratio of head {unique_id!r} is {dropout_ratio!r}; it must be in [0, 1]")
        self.in_plane = in_plane
        self.final_avgpool = self._pooling(pool_size)
        if use_dropout:
            self.dropout = nn.Dropout(p=dropout_ratio)
        self.head_fcl = FullyConvolutionalLinear(in_plane, num_classes, activation_func)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, and `fork_block`; the dataset may say `num_classes`."""
        changed = {
            "unique_id": Key(str),
            "num_classes": Key(int | None, None),
            "pool_size": Key(list[int] | None, None),
        }
        return {**super().config_keys(), **changed}

    def _pooling(self, size: Sequence[int] | None) -> nn.Module:
        if size is None:
            return nn.AdaptiveAvgPool3d((1, 1, 1))
        is_size = isinstance(size, Sequence) and len(size) == 3 and all(type(side) is int and side > 0 for side in size)
        if not is_size:
            raise ComponentError(
                f"pool_size of head {self.unique_id!r} is {size!r}; it must be three integers of at least 1, (T, H, W)"
            )
        return nn.AvgPool3d((size[0], size[1], size[2]), stride=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = getattr(self.final_avgpool, "kernel_size", (1, 1, 1))
        fits = x.ndim == 5 and x.shape[1] == self.in_plane
        if not fits or any(have < need for have, need in zip(x.shape[2:], size, strict=True)):
            raise ShapeError(
                f"head {self.unique_id!r} takes features of shape (N, {self.in_plane}, T, H, W) with at least "
                f"{tuple(size)} positions, not {tuple(x.shape)}: set in_plane, pool_size or fork_block"
            )
        x = self.final_avgpool(x)
        if hasattr(self, "dropout"):
            x = self.dropout(x)
        return self.head_fcl(x)
