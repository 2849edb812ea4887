"""A stage of ResNeXt3D: for each pathway, blocks of the same width."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models.resnext3d_block import ResBlock


class ResStageBase(nn.Module):
    """Sequences of blocks named `pathway{p}`, one for each pathway, which a subclass adds.

    Each argument but the first has an entry for each pathway; ResNeXt3D has one, SlowFast networks have two.

    Args:
        stage_idx: number of the stage, from 1.
        dim_in: number of input channels.
        dim_out: number of output channels.
        dim_inner: number of channels of the middle of a bottleneck.
        temporal_kernel_basis: sizes in time that the blocks have in turn.
        temporal_conv_1x1: which convolution of a bottleneck that is: the first (1x1) or the middle one.
        temporal_stride: stride of the first block in time.
        spatial_stride: its stride in height and width.
        num_blocks: number of blocks, at least 1.
        num_groups: groups of the 3x3 convolutions.

    Raises:
        ComponentError: the arguments have not equally many entries.
    """

    def __init__(
        self,
        stage_idx: int,
        dim_in: list[int],
        dim_out: list[int],
        dim_inner: list[int],
        temporal_kernel_basis: list[list[int]],
        temporal_conv_1x1: list[bool],
        temporal_stride: list[int],
        spatial_stride: list[int],
        num_blocks: list[int],
        num_groups: list[int],
    ) -> None:
        super().__init__()
        check_pathways(
            dim_in=dim_in,
            dim_out=dim_out,
            dim_inner=dim_inner,
            temporal_kernel_basis=temporal_kernel_basis,
            temporal_conv_1x1=temporal_conv_1x1,
            temporal_stride=temporal_stride,
            spatial_stride=spatial_stride,
            num_blocks=num_blocks,
            num_groups=num_groups,
        )
        self.stage_idx = stage_idx
        self.num_blocks = num_blocks
        self.num_pathways = len(num_blocks)
        self.temporal_kernel_sizes = [
            [sizes[i % len(sizes)] for i in range(depth)]
            for sizes, depth in zip(temporal_kernel_basis, num_blocks, strict=True)
        ]

    def _block_name(self, pathway_idx: int, stage_idx: int, block_idx: int) -> str:
        return f"pathway{pathway_idx}-stage{stage_idx}-block{block_idx}"

    def _pathway_name(self, pathway_idx: int) -> str:
        return f"pathway{pathway_idx}"

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the output of each pathway for its input."""
        return [self.get_submodule(self._pathway_name(p))(x) for p, x in enumerate(inputs)]


class ResStage(ResStageBase):
    """Blocks named `pathway{p}-stage{stage_idx}-block{i}`; the first of a pathway has the strides.

    Args:
        stage_idx, dim_in, dim_out, dim_inner, temporal_kernel_basis, temporal_conv_1x1, temporal_stride,
            spatial_stride, num_blocks, num_groups: as for ResStageBase, with entries for each pathway.
        skip_transformation_type, residual_transformation_type, inplace_relu, bn_eps, bn_mmt: as for ResBlock.
        disable_pre_activation: the first blocks' argument.
        final_stage: end pre-activated pathways with batch norm and ReLU, named as the last block with `-bn`, `-relu`.
    """

    def __init__(
        self,
        stage_idx: int,
        dim_in: list[int],
        dim_out: list[int],
        dim_inner: list[int],
        temporal_kernel_basis: list[list[int]],
        temporal_conv_1x1: list[bool],
        temporal_stride: list[int],
        spatial_stride: list[int],
        num_blocks: list[int],
        num_groups: list[int],
        skip_transformation_type: str,
        residual_transformation_type: str,
        inplace_relu: bool = True,
        bn_eps: float = 1e-5,
        bn_mmt: float = 0.1,
        disable_pre_activation: bool = False,
        final_stage: bool = False,
    ) -> None:
        super().__init__(
            stage_idx,
            dim_in,
            dim_out,
            dim_inner,
            temporal_kernel_basis,
            temporal_conv_1x1,
            temporal_stride,
            spatial_stride,
            num_blocks,
            num_groups,
        )
        for p, sizes in enumerate(self.temporal_kernel_sizes):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for i, size in enumerate(sizes):
                name = self._block_name(p, stage_idx, i)
                blocks[name] = ResBlock(
                    dim_in[p] if i == 0 else dim_out[p],
                    dim_out[p],
                    dim_inner[p],
                    size,
                    temporal_conv_1x1[p],
                    temporal_stride[p] if i == 0 else 1,
                    spatial_stride[p] if i == 0 else 1,
                    skip_transformation_type,
                    residual_transformation_type,
                    num_groups[p],
                    inplace_relu,
                    bn_eps,
                    bn_mmt,
                    disable_pre_activation=disable_pre_activation and i == 0,
                )
            if final_stage and residual_transformation_type == "preactivated_bottleneck_transformation":
                blocks[f"{name}-bn"] = nn.BatchNorm3d(dim_out[p], eps=bn_eps, momentum=bn_mmt)
                blocks[f"{name}-relu"] = nn.ReLU(inplace=inplace_relu)
            self.add_module(self._pathway_name(p), nn.Sequential(blocks))


def check_pathways(**arguments: Any) -> None:
    """Refuses arguments that are not lists with equally many entries.

    Raises:
        ComponentError: one is another thing, or they differ in length.
    """
    for name, values in arguments.items():
        if not isinstance(values, list | tuple):
            raise ComponentError(f"{name} is {values!r}; expected a list with an entry for each pathway")
    lengths = {name: len(values) for name, values in arguments.items()}
    if len(set(lengths.values())) > 1:
        raise ComponentError(f"expected equally many entries, one for each pathway; found {lengths}")
