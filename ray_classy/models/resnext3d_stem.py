"""The stems of ResNeXt3D: the first convolution, batch norm, ReLU and pooling.

Their submodules have the names of Classy Vision, where a stem can have several pathways.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ray_classy.models.r2plus1_util import r2plus1_unit

_R2PLUS1D_MID = 45  # as many parameters as a 3x7x7 convolution from 3 to 64 channels (arXiv:1711.11248)


class ResNeXt3DStem(nn.Module):
    """A convolution with stride 2 in height and width.

    Args:
        temporal_kernel: its size in time, odd.
        spatial_kernel: its size in height and width, odd.
        input_planes: number of input channels.
        stem_planes: number of output channels.
        maxpool: halve height and width once more with max pooling.
    """

    def __init__(
        self, temporal_kernel: int, spatial_kernel: int, input_planes: int, stem_planes: int, maxpool: bool
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = self._convolution(temporal_kernel, spatial_kernel, input_planes, stem_planes)
        layers["bn"] = nn.BatchNorm3d(stem_planes)
        layers["relu"] = nn.ReLU(inplace=True)
        if maxpool:
            layers["pool_layer"] = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.stem = nn.Sequential(OrderedDict([("stem-path0", nn.Sequential(layers))]))

    def _convolution(self, temporal: int, spatial: int, dim_in: int, dim_out: int) -> nn.Module:
        padding = (temporal // 2, spatial // 2, spatial // 2)
        return nn.Conv3d(dim_in, dim_out, (temporal, spatial, spatial), (1, 2, 2), padding, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x)


class R2Plus1DStem(ResNeXt3DStem):
    """A ResNeXt3DStem whose convolution is a (2+1)D one of size 3; the sizes of the kernel have no effect."""

    def _convolution(self, temporal: int, spatial: int, dim_in: int, dim_out: int) -> nn.Module:
        return r2plus1_unit(dim_in, dim_out, 1, 2, 1, dim_mid=_R2PLUS1D_MID)
