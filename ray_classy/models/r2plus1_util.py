"""The (2+1)D convolution."""

from __future__ import annotations

from torch import nn


def r2plus1_unit(
    dim_in: int,
    dim_out: int,
    temporal_stride: int,
    spatial_stride: int,
    groups: int,
    inplace_relu: bool = True,
    bn_eps: float = 1e-5,
    bn_mmt: float = 0.1,
    dim_mid: int | None = None,
) -> nn.Sequential:
    """Builds a 3x3x3 convolution that is split into one over space and one over time (arXiv:1711.11248, section 3.5).

    Args:
        dim_in: number of input channels.
        dim_out: number of output channels.
        temporal_stride: stride in time.
        spatial_stride: stride in height and width.
        groups: groups of both convolutions.
        inplace_relu: whether the ReLU between them works in place.
        bn_eps: epsilon of the batch norm between them.
        bn_mmt: its momentum.
        dim_mid: number of channels between them; None for as many as keep the number of parameters of the 3x3x3
            convolution.
    """
    if dim_mid is None:
        dim_mid = 3 * 3 * 3 * dim_in * dim_out // (3 * 3 * dim_in + 3 * dim_out)
        dim_mid -= dim_mid % groups
    strides = (1, spatial_stride, spatial_stride), (temporal_stride, 1, 1)
    return nn.Sequential(
        nn.Conv3d(dim_in, dim_mid, (1, 3, 3), strides[0], (0, 1, 1), groups=groups, bias=False),
        nn.BatchNorm3d(dim_mid, eps=bn_eps, momentum=bn_mmt),
        nn.ReLU(inplace=inplace_relu),
        nn.Conv3d(dim_mid, dim_out, (3, 1, 1), strides[1], (1, 0, 0), groups=groups, bias=False),
    )
