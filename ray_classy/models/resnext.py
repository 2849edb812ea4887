"""The trunk of ResNeXt, and of ResNet, which is a ResNeXt with one group."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models import former_names, torchvision_names
from ray_classy.models.classy_model import ClassyModel, register_model
from ray_classy.models.head_points import in_trunk
from ray_classy.models.model_state import StateMismatch, StateVersionError, model_part
from ray_classy.models.residual_block import INPLACE as INPLACE
from ray_classy.models.residual_block import BasicLayer as BasicLayer
from ray_classy.models.residual_block import BottleneckLayer as BottleneckLayer
from ray_classy.models.residual_block import GenericLayer as GenericLayer
from ray_classy.models.residual_block import InitialBlock, SmallInputInitialBlock, residual_block, zero_last_batch_norm
from ray_classy.models.residual_block import conv1x1 as conv1x1
from ray_classy.models.residual_block import conv3x3 as conv3x3

VERSION = 0.2
"""Of the layout of states."""

_NAMED = ("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152", "ResNeXt50", "ResNeXt101", "ResNeXt152")

_MOST_BLOCKS = 10_000  # so that a slip in a number does not build a model for hours


def __getattr__(name: str) -> Any:
    """The named models of `ray_classy.models.resnet`, which Classy Vision has in this module."""
    if name not in _NAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ray_classy.models import resnet

    return getattr(resnet, name)


@register_model("resnext")
class ResNeXt(ClassyModel):
    """Stages of residual blocks named `block{stage}-{i}` from 0; the output is the last block's feature map.

    From Xie et al. 2017 (arXiv:1611.05431), with the stride of a bottleneck on its 3x3 convolution.

    Stage s has `init_planes * 2**s * reduction` output planes; every stage but the first halves height and width.

    Args:
        num_blocks: number of blocks of each stage.
        init_planes: number of planes after the stem.
        reduction: how many times fewer planes the middle of a bottleneck has than its output; 4 if None, or 1 with
            `basic_layer`.
        small_input: for images of about 32 pixels: a 3x3 stem without pooling, and basic blocks.
        zero_init_bn_residuals: start each block as the identity, with a zero weight in its last batch norm.
        base_width_and_cardinality: width of a group in the first stage (doubled in each later one) and number of
            groups of the 3x3 convolutions; None for one group as wide as `reduction` says.
        basic_layer: blocks of two 3x3 convolutions instead of bottlenecks.
        final_bn_relu: end the very last block with batch norm and ReLU.
        use_se: end each block's branch with squeeze and excitation.
        se_reduction_ratio: its reduction ratio.

    The input is (N, 3, H, W); the output is (N, planes, H / 32, W / 32) for four stages (small input: H / 8, W / 8).

    Raises:
        ComponentError: a number is not positive.
    """

    FORMER_KEYS: ClassVar[tuple[str, ...]] = ("num_classes",)

    def __init__(
        self,
        num_blocks: list[int],
        init_planes: int = 64,
        reduction: int | None = None,
        small_input: bool = False,
        zero_init_bn_residuals: bool = False,
        base_width_and_cardinality: tuple[int, int] | None = None,
        basic_layer: bool = False,
        final_bn_relu: bool = True,
        use_se: bool = False,
        se_reduction_ratio: int = 16,
    ) -> None:
        super().__init__()
        if reduction is None:
            reduction = 1 if basic_layer else 4
        if not isinstance(num_blocks, list | tuple):
            raise ComponentError(
                f"num_blocks is {num_blocks!r}; expected a list with the number of blocks of each stage"
            )
        groups = base_width_and_cardinality
        if groups is not None and not (isinstance(groups, list | tuple) and len(groups) == 2):
            raise ComponentError(f"base_width_and_cardinality is {groups!r}; expected two numbers: width, groups")
        numbers = [*num_blocks, init_planes, reduction, *(groups or ())]
        if not num_blocks or not all(type(number) is int and number > 0 for number in numbers):
            raise ComponentError(
                f"num_blocks {num_blocks}, init_planes {init_planes}, reduction {reduction} and "
                f"base_width_and_cardinality {groups} must be positive integers, with at least one stage"
            )
        for name, value in {"small_input": small_input, "zero_init_bn_residuals": zero_init_bn_residuals}.items():
            if not isinstance(value, bool):
                raise ComponentError(f"{name} of a {type(self).__name__} is {value!r}; expected true or false")
        if sum(num_blocks) > _MOST_BLOCKS:
            raise ComponentError(f"num_blocks {num_blocks} are {sum(num_blocks)} blocks, more than {_MOST_BLOCKS}")
        self.small_input = small_input
        self.initial_block = SmallInputInitialBlock(init_planes) if small_input else InitialBlock(init_planes)
        stages = []
        in_planes = init_planes
        for stage, depth in enumerate(num_blocks):
            mid_planes = init_planes * 2**stage
            out_planes = mid_planes * reduction
            base_width, cardinality = groups or (init_planes, 1)
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range(depth):
                blocks[f"block{stage}-{i}"] = residual_block(
                    in_planes if i == 0 else out_planes,
                    out_planes,
                    stride=2 if i == 0 and stage > 0 else 1,
                    width_and_groups=None if basic_layer or small_input else (base_width * 2**stage, cardinality),
                    final_bn_relu=final_bn_relu or (stage, i) != (len(num_blocks) - 1, depth - 1),
                    se_reduction_ratio=se_reduction_ratio if use_se else None,
                )
            stages.append(nn.Sequential(blocks))
            in_planes = out_planes
        self.blocks = nn.Sequential(*stages)
        self._initialize(zero_init_bn_residuals)

    def _initialize(self, zero_init_bn_residuals: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_bn_residuals:
            for stage in self.blocks:
                for block in stage.children():
                    zero_last_batch_norm(block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.initial_block(x))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, 32, 32) if self.small_input else (3, 224, 224)

    def get_classy_state(self, deep_copy: bool = False) -> dict[str, Any]:
        """The weights as in `ClassyModel`, and under `version` the version of the trunk's layout."""
        return {**super().get_classy_state(deep_copy), "version": VERSION}

    def own_names(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Returns weights under this model's names; it knows those of torchvision, timm and Classy Vision."""
        own = [name for name in self.state_dict() if in_trunk(name)]
        return super().own_names(torchvision_names.renamed(former_names.renamed(weights, own), own))

    def set_classy_state(self, state: Mapping[str, Any], strict: bool = True) -> StateMismatch:
        """Loads a state of this version or of none, Classy Vision's among them; see `ClassyModel`.

        Raises:
            CheckpointError: the state is of another version, or of none and without the names that such states have.
        """
        version = state.get("version") if isinstance(state, Mapping) else None
        if version is None:
            state = self._convert_model_state(state)
        elif version != VERSION:
            raise StateVersionError(
                f"the state of this {type(self).__name__} has version {version}, but only {VERSION} can be "
                "loaded; write it again with the release that made it, or use a checkpoint of this release"
            )
        return super().set_classy_state(state, strict)

    def _convert_model_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        trunk = model_part(state)["trunk"]
        converted = former_names.of_unversioned(trunk)
        if converted.keys() == trunk.keys():
            raise StateVersionError(
                f"the state of this {type(self).__name__} has no version, and not the names of states "
                "written before there were versions (blocks.0.0._module. ...): use a checkpoint of this release"
            )
        return {**state, "model": {**state["model"], "trunk": converted}, "version": VERSION}
