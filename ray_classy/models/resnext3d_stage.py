"""A stage of ResNeXt3D: blocks of the same width."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ray_classy.models.resnext3d_block import ResBlock


class ResStage(nn.Module):
    """Blocks named `pathway0-stage{stage_idx}-block{i}`; the first has the strides.

    Args:
        stage_idx: number of the stage, from 1.
        dim_in: number of input channels.
        dim_out: number of output channels.
        dim_inner: number of channels of the middle of a bottleneck.
        temporal_kernel_basis: sizes in time that the blocks have in turn.
        temporal_conv_1x1, temporal_stride, spatial_stride, num_groups, skip_transformation_type,
            residual_transformation_type: as for ResBlock.
        num_blocks: number of blocks, at least 1.
        disable_pre_activation: the first block's argument.
        final_stage: end a pre-activated stage with batch norm and ReLU, named as the last block with `-bn`, `-relu`.
    """

    def __init__(
        self,
        stage_idx: int,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel_basis: list[int],
        temporal_conv_1x1: bool,
        temporal_stride: int,
        spatial_stride: int,
        num_blocks: int,
        num_groups: int,
        skip_transformation_type: str,
        residual_transformation_type: str,
        *,
        disable_pre_activation: bool = False,
        final_stage: bool = False,
    ) -> None:
        super().__init__()
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(num_blocks):
            name = f"pathway0-stage{stage_idx}-block{i}"
            blocks[name] = ResBlock(
                dim_in if i == 0 else dim_out,
                dim_out,
                dim_inner,
                temporal_kernel_basis[i % len(temporal_kernel_basis)],
                temporal_conv_1x1,
                temporal_stride if i == 0 else 1,
                spatial_stride if i == 0 else 1,
                skip_transformation_type,
                residual_transformation_type,
                num_groups,
                disable_pre_activation=disable_pre_activation and i == 0,
            )
        if final_stage and residual_transformation_type == "preactivated_bottleneck_transformation":
            blocks[f"{name}-bn"] = nn.BatchNorm3d(dim_out)
            blocks[f"{name}-relu"] = nn.ReLU(inplace=True)
        self.pathway0 = nn.Sequential(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pathway0(x)
