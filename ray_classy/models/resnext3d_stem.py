"""The stems of ResNeXt3D: the first convolution, batch norm, ReLU and pooling of each pathway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from ray_classy.models.r2plus1_util import r2plus1_unit
from ray_classy.models.resnext3d_stage import check_pathways

_R2PLUS1D_MID = 45  # as many parameters as a 3x7x7 convolution from 3 to 64 channels (arXiv:1711.11248)


class ResNeXt3DStemSinglePathway(nn.Module):
    """The stem of one pathway.

    Args:
        dim_in: number of input channels.
        dim_out: number of output channels.
        kernel: size of the convolution in time, height and width.
        stride: its strides.
        padding: its padding.
        maxpool: halve height and width once more with max pooling.
        inplace_relu: whether ReLUs work in place.
        bn_eps: epsilon of the batch norms.
        bn_mmt: their momentum.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        maxpool: bool = True,
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
    ) -> None:
        super().__init__()
        options = {"inplace_relu": inplace_relu, "bn_eps": bn_eps, "bn_mmt": bn_mmt}
        self.conv = self._convolution(dim_in, dim_out, kernel, stride, padding, options)
        self.bn = nn.BatchNorm3d(dim_out, eps=bn_eps, momentum=bn_mmt)
        self.relu = nn.ReLU(inplace=inplace_relu)
        if maxpool:
            self.pool_layer = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def _convolution(
        self, dim_in: int, dim_out: int, kernel: Any, stride: Any, padding: Any, options: dict[str, Any]
    ) -> nn.Module:
        return nn.Conv3d(dim_in, dim_out, tuple(kernel), tuple(stride), tuple(padding), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn(self.conv(x)))
        return self.pool_layer(x) if hasattr(self, "pool_layer") else x


class R2Plus1DStemSinglePathway(ResNeXt3DStemSinglePathway):
    """A stem whose convolution is a (2+1)D one of size 3; of `kernel` and `padding` nothing is used."""

    def _convolution(
        self, dim_in: int, dim_out: int, kernel: Any, stride: Any, padding: Any, options: dict[str, Any]
    ) -> nn.Module:
        return r2plus1_unit(dim_in, dim_out, stride[0], stride[1], 1, dim_mid=_R2PLUS1D_MID, **options)


class ResNeXt3DStemMultiPathway(nn.Module):
    """Stems named `stem-path{p}`, one for each pathway.

    Args:
        dim_in, dim_out, kernel, stride, padding, maxpool: as for ResNeXt3DStemSinglePathway, with an entry for each
            pathway.
        inplace_relu, bn_eps, bn_mmt: as for ResNeXt3DStemSinglePathway.

    Raises:
        ComponentError: the arguments have not equally many entries.
    """

    PATHWAY: ClassVar[type[ResNeXt3DStemSinglePathway]] = ResNeXt3DStemSinglePathway

    def __init__(
        self,
        dim_in: Sequence[int],
        dim_out: Sequence[int],
        kernel: Sequence[Sequence[int]],
        stride: Sequence[Sequence[int]],
        padding: Sequence[Sequence[int]],
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        maxpool: Sequence[bool] = (True,),
    ) -> None:
        super().__init__()
        check_pathways(dim_in=dim_in, dim_out=dim_out, kernel=kernel, stride=stride, padding=padding, maxpool=maxpool)
        for p in range(len(dim_in)):
            pathway = (dim_in[p], dim_out[p], kernel[p], stride[p], padding[p], maxpool[p])
            self.add_module(self._stem_name(p), self.PATHWAY(*pathway, inplace_relu, bn_eps, bn_mmt))

    def _stem_name(self, path_idx: int) -> str:
        return f"stem-path{path_idx}"

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the output of each pathway for its input."""
        return [self.get_submodule(self._stem_name(p))(clip) for p, clip in enumerate(x)]


class R2Plus1DStemMultiPathway(ResNeXt3DStemMultiPathway):
    """A ResNeXt3DStemMultiPathway of R2Plus1DStemSinglePathway."""

    PATHWAY = R2Plus1DStemSinglePathway


class ResNeXt3DStem(nn.Module):
    """The stem of a network with one pathway; its convolution has stride 2 in height and width.

    Args:
        temporal_kernel: size of the convolution in time, odd.
        spatial_kernel: its size in height and width, odd.
        input_planes: number of input channels.
        stem_planes: number of output channels.
        maxpool: halve height and width once more with max pooling.
    """

    PATHWAYS: ClassVar[type[ResNeXt3DStemMultiPathway]] = ResNeXt3DStemMultiPathway

    def __init__(
        self, temporal_kernel: int, spatial_kernel: int, input_planes: int, stem_planes: int, maxpool: bool
    ) -> None:
        super().__init__()
        kernel = (temporal_kernel, spatial_kernel, spatial_kernel)
        padding = [size // 2 for size in kernel]
        self.stem = self.PATHWAYS([input_planes], [stem_planes], [kernel], [(1, 2, 2)], [padding], maxpool=[maxpool])

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the output of each pathway for its input."""
        return self.stem(x)


class R2Plus1DStem(ResNeXt3DStem):
    """A ResNeXt3DStem whose convolution is a (2+1)D one of size 3; the sizes of the kernel have no effect."""

    PATHWAYS = R2Plus1DStemMultiPathway
