"""The residual blocks of ResNeXt3D: a residual branch and a shortcut, each of a kind that the config chooses.

All transformations take the same keyword arguments: those that only others use have no effect (`others`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.models.r2plus1_util import r2plus1_unit


class BasicTransformation(nn.Module):
    """Two 3x3x3 convolutions, each followed by batch norm (Hara et al. 2018, arXiv:1711.09577: R3D).

    Args:
        dim_in: number of input channels.
        dim_out: number of output channels.
        temporal_stride: stride of the first convolution in time.
        spatial_stride: its stride in height and width.
        groups: groups of both convolutions.
        inplace_relu: whether ReLUs work in place.
        bn_eps: epsilon of the batch norms.
        bn_mmt: their momentum.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        temporal_stride: int,
        spatial_stride: int,
        groups: int,
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        **others: Any,
    ) -> None:
        super().__init__()
        _check_others(self, others)
        options = (inplace_relu, bn_eps, bn_mmt)
        self.transform = nn.Sequential(
            self._convolution(dim_in, dim_out, temporal_stride, spatial_stride, groups, *options),
            nn.BatchNorm3d(dim_out, eps=bn_eps, momentum=bn_mmt),
            nn.ReLU(inplace=inplace_relu),
            self._convolution(dim_out, dim_out, 1, 1, groups, *options),
            nn.BatchNorm3d(dim_out, eps=bn_eps, momentum=bn_mmt),
        )

    def _convolution(
        self, dim_in: int, dim_out: int, temporal: int, spatial: int, groups: int, *options: Any
    ) -> nn.Module:
        return _conv(dim_in, dim_out, (3, 3, 3), (temporal, spatial, spatial), groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.transform(x)

    def zero_init(self) -> None:
        """Makes the branch zero."""
        nn.init.zeros_(self.transform.get_parameter("4.weight"))


class BasicR2Plus1DTransformation(BasicTransformation):
    """A BasicTransformation whose convolutions are split into space and time (Tran et al. 2018, arXiv:1711.11248)."""

    def _convolution(
        self, dim_in: int, dim_out: int, temporal: int, spatial: int, groups: int, *options: Any
    ) -> nn.Module:
        return r2plus1_unit(dim_in, dim_out, temporal, spatial, groups, *options)


class PostactivatedBottleneckTransformation(nn.Module):
    """A bottleneck whose convolutions are each followed by batch norm (He et al. 2016, arXiv:1512.03385).

    Args:
        dim_in: number of input channels.
        dim_out: number of output channels.
        temporal_stride: stride in time of the middle convolution.
        spatial_stride: stride in height and width.
        num_groups: groups of the middle convolution.
        dim_inner: its number of channels.
        temporal_kernel_size: size in time of the one convolution that is not 1 in time.
        temporal_conv_1x1: that convolution is the first one, 1 in height and width; otherwise the middle one.
        spatial_stride_1x1: the first convolution has the spatial stride instead of the middle one.
        inplace_relu, bn_eps, bn_mmt: as for BasicTransformation.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        temporal_stride: int,
        spatial_stride: int,
        num_groups: int,
        dim_inner: int,
        temporal_kernel_size: int = 3,
        temporal_conv_1x1: bool = True,
        spatial_stride_1x1: bool = False,
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        **others: Any,
    ) -> None:
        super().__init__()
        _check_others(self, others)
        first, middle = (temporal_kernel_size, 1) if temporal_conv_1x1 else (1, temporal_kernel_size)
        outer, inner = (spatial_stride, 1) if spatial_stride_1x1 else (1, spatial_stride)
        self.branch2a = _conv(dim_in, dim_inner, (first, 1, 1), (1, outer, outer))
        self.branch2a_bn = nn.BatchNorm3d(dim_inner, eps=bn_eps, momentum=bn_mmt)
        self.branch2a_relu = nn.ReLU(inplace=inplace_relu)
        self.branch2b = _conv(dim_inner, dim_inner, (middle, 3, 3), (temporal_stride, inner, inner), num_groups)
        self.branch2b_bn = nn.BatchNorm3d(dim_inner, eps=bn_eps, momentum=bn_mmt)
        self.branch2b_relu = nn.ReLU(inplace=inplace_relu)
        self.branch2c = _conv(dim_inner, dim_out)
        self.branch2c_bn = nn.BatchNorm3d(dim_out, eps=bn_eps, momentum=bn_mmt)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.branch2a_relu(self.branch2a_bn(self.branch2a(x)))
        x = self.branch2b_relu(self.branch2b_bn(self.branch2b(x)))
        return self.branch2c_bn(self.branch2c(x))

    def zero_init(self) -> None:
        """Makes the branch zero."""
        nn.init.zeros_(self.branch2c_bn.weight)


class PreactivatedBottleneckTransformation(nn.Module):
    """A bottleneck with batch norm and ReLU before each convolution (He et al. 2016, arXiv:1603.05027).

    Args:
        dim_in, dim_out, temporal_stride, spatial_stride, num_groups, dim_inner, temporal_kernel_size,
            temporal_conv_1x1, spatial_stride_1x1, inplace_relu, bn_eps, bn_mmt: as for
            PostactivatedBottleneckTransformation.
        disable_pre_activation: no batch norm and ReLU before the first convolution: its input has been through them.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        temporal_stride: int,
        spatial_stride: int,
        num_groups: int,
        dim_inner: int,
        temporal_kernel_size: int = 3,
        temporal_conv_1x1: bool = True,
        spatial_stride_1x1: bool = False,
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        disable_pre_activation: bool = False,
        **others: Any,
    ) -> None:
        super().__init__()
        _check_others(self, others)
        first, middle = (temporal_kernel_size, 1) if temporal_conv_1x1 else (1, temporal_kernel_size)
        outer, inner = (spatial_stride, 1) if spatial_stride_1x1 else (1, spatial_stride)
        self.disable_pre_activation = disable_pre_activation
        if not disable_pre_activation:
            self.branch2a_bn = nn.BatchNorm3d(dim_in, eps=bn_eps, momentum=bn_mmt)
            self.branch2a_relu = nn.ReLU(inplace=inplace_relu)
        self.branch2a = _conv(dim_in, dim_inner, (first, 1, 1), (1, outer, outer))
        self.branch2b_bn = nn.BatchNorm3d(dim_inner, eps=bn_eps, momentum=bn_mmt)
        self.branch2b_relu = nn.ReLU(inplace=inplace_relu)
        self.branch2b = _conv(dim_inner, dim_inner, (middle, 3, 3), (temporal_stride, inner, inner), num_groups)
        self.branch2c_bn = nn.BatchNorm3d(dim_inner, eps=bn_eps, momentum=bn_mmt)
        self.branch2c_relu = nn.ReLU(inplace=inplace_relu)
        self.branch2c = _conv(dim_inner, dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.disable_pre_activation:
            x = self.branch2a_relu(self.branch2a_bn(x))
        x = self.branch2b_relu(self.branch2b_bn(self.branch2a(x)))
        return self.branch2c(self.branch2c_relu(self.branch2c_bn(self.branch2b(x))))

    def zero_init(self) -> None:
        """Makes the branch zero."""
        nn.init.zeros_(self.branch2c.weight)


class PostactivatedShortcutTransformation(nn.Module):
    """A 1x1x1 convolution and batch norm.

    Args:
        dim_in: number of input channels.
        dim_out: number of output channels.
        temporal_stride: stride in time.
        spatial_stride: stride in height and width.
        bn_eps: epsilon of the batch norm.
        bn_mmt: its momentum.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        temporal_stride: int,
        spatial_stride: int,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        **others: Any,
    ) -> None:
        super().__init__()
        _check_others(self, others)
        self.branch1 = _conv(dim_in, dim_out, stride=(temporal_stride, spatial_stride, spatial_stride))
        self.branch1_bn = nn.BatchNorm3d(dim_out, eps=bn_eps, momentum=bn_mmt)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch1_bn(self.branch1(x))


class PreactivatedShortcutTransformation(nn.Module):
    """Batch norm, ReLU and a 1x1x1 convolution.

    Args:
        dim_in, dim_out, temporal_stride, spatial_stride, bn_eps, bn_mmt: as for PostactivatedShortcutTransformation.
        inplace_relu: whether the ReLU works in place.
        disable_pre_activation: the convolution only: its input has been through batch norm and ReLU.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        temporal_stride: int,
        spatial_stride: int,
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        disable_pre_activation: bool = False,
        **others: Any,
    ) -> None:
        super().__init__()
        _check_others(self, others)
        self.disable_pre_activation = disable_pre_activation
        if not disable_pre_activation:
            self.branch1_bn = nn.BatchNorm3d(dim_in, eps=bn_eps, momentum=bn_mmt)
            self.branch1_relu = nn.ReLU(inplace=inplace_relu)
        self.branch1 = _conv(dim_in, dim_out, stride=(temporal_stride, spatial_stride, spatial_stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.disable_pre_activation:
            x = self.branch1_relu(self.branch1_bn(x))
        return self.branch1(x)


residual_transformations: dict[str, Any] = {
    "basic_r2plus1d_transformation": BasicR2Plus1DTransformation,
    "basic_transformation": BasicTransformation,
    "postactivated_bottleneck_transformation": PostactivatedBottleneckTransformation,
    "preactivated_bottleneck_transformation": PreactivatedBottleneckTransformation,
}
skip_transformations: dict[str, Any] = {
    "postactivated_shortcut": PostactivatedShortcutTransformation,
    "preactivated_shortcut": PreactivatedShortcutTransformation,
}


class ResBlock(nn.Module):
    """The sum of a residual branch and a shortcut; the shortcut is the input itself where the shapes are the same.

    Args:
        dim_in: number of input channels.
        dim_out: number of output channels.
        dim_inner: number of channels of the middle of a bottleneck.
        temporal_kernel_size: size in time of a bottleneck's convolution; basic blocks have 3.
        temporal_conv_1x1: which convolution of a bottleneck that is: the first (1x1) or the middle one.
        temporal_stride: stride in time.
        spatial_stride: stride in height and width.
        skip_transformation_type: a name in `skip_transformations`.
        residual_transformation_type: a name in `residual_transformations`.
        num_groups: groups of the 3x3 convolutions.
        inplace_relu: whether ReLUs work in place.
        bn_eps: epsilon of the batch norms.
        bn_mmt: their momentum.
        disable_pre_activation: leave out the first batch norm and ReLU of pre-activated parts.

    Raises:
        ComponentError: there is no transformation of that name.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel_size: int,
        temporal_conv_1x1: bool,
        temporal_stride: int,
        spatial_stride: int,
        skip_transformation_type: str,
        residual_transformation_type: str,
        num_groups: int = 1,
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        disable_pre_activation: bool = False,
    ) -> None:
        super().__init__()
        skip = find_transformation(skip_transformations, "skip_transformation_type", skip_transformation_type)
        residual = find_transformation(
            residual_transformations, "residual_transformation_type", residual_transformation_type
        )
        options: dict[str, Any] = {
            "inplace_relu": inplace_relu,
            "bn_eps": bn_eps,
            "bn_mmt": bn_mmt,
            "disable_pre_activation": disable_pre_activation,
        }
        if dim_in != dim_out or temporal_stride != 1 or spatial_stride != 1:
            self.skip = skip(dim_in, dim_out, temporal_stride, spatial_stride, **options)
        self.residual = residual(
            dim_in,
            dim_out,
            temporal_stride,
            spatial_stride,
            num_groups,
            dim_inner=dim_inner,
            temporal_kernel_size=temporal_kernel_size,
            temporal_conv_1x1=temporal_conv_1x1,
            **options,
        )
        self.relu = nn.ReLU(inplace=inplace_relu)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.skip(x) if hasattr(self, "skip") else x
        return self.relu(shortcut + self.residual(x))


_OPTIONS = {
    "dim_inner",
    "temporal_kernel_size",
    "temporal_conv_1x1",
    "spatial_stride_1x1",
    "inplace_relu",
    "disable_pre_activation",
}
"""The arguments that some transformations do not use."""


def _check_others(transformation: nn.Module, others: dict[str, Any]) -> None:
    unknown = sorted(others.keys() - _OPTIONS)
    if unknown:
        raise ArgumentTypeError(f"{type(transformation).__name__} has no argument {', '.join(unknown)}")


def find_transformation(known: dict[str, Any], key: str, name: str) -> Any:
    """Returns the class of a name.

    Raises:
        ComponentError: there is none.
    """
    if not isinstance(name, str) or name not in known:
        raise ComponentError(f"{key} is {name!r}; choose one of {', '.join(sorted(known))}")
    return known[name]


def _conv(
    dim_in: int,
    dim_out: int,
    kernel: tuple[int, int, int] = (1, 1, 1),
    stride: tuple[int, int, int] = (1, 1, 1),
    groups: int = 1,
) -> nn.Conv3d:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(dim_in, dim_out, kernel, stride, padding, groups=groups, bias=False)
