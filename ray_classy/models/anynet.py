"""AnyNet: a stem and stages of equal blocks, whose numbers are all free."""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar, cast

import torch
from torch import nn

from ray_classy.errors import ComponentError, ConfigError
from ray_classy.models import former_names, timm_names, torchvision_names
from ray_classy.models.anynet_blocks import (
    RELU_IN_PLACE,
    ResBasicBlock,
    ResBottleneckBlock,
    ResBottleneckLinearBlock,
    ResStemCifar,
    ResStemIN,
    SimpleStemIN,
    VanillaBlock,
)
from ray_classy.models.anynet_blocks import BasicTransform as BasicTransform
from ray_classy.models.anynet_blocks import BottleneckTransform as BottleneckTransform
from ray_classy.models.classy_model import ClassyModel, register_model, with_heads
from ray_classy.models.model_state import StateMismatch
from ray_classy.registry import Keys, construct_from, constructor_arguments, signature_keys

MOST_BLOCKS = 10_000  # so that a slip in a number does not build a model for hours

Choice = TypeVar("Choice", bound=enum.Enum)


class BlockType(enum.Enum):
    """The residual blocks of an AnyNet."""

    VANILLA_BLOCK = "vanilla_block"
    RES_BASIC_BLOCK = "res_basic_block"
    RES_BOTTLENECK_BLOCK = "res_bottleneck_block"
    RES_BOTTLENECK_LINEAR_BLOCK = "res_bottleneck_linear_block"


class StemType(enum.Enum):
    """The stems of an AnyNet."""

    RES_STEM_CIFAR = "res_stem_cifar"
    RES_STEM_IN = "res_stem_in"
    SIMPLE_STEM_IN = "simple_stem_in"


class ActivationType(enum.Enum):
    """The activations of an AnyNet."""

    RELU = "relu"
    SILU = "silu"


_BLOCKS: dict[BlockType, type[nn.Module]] = {
    BlockType.VANILLA_BLOCK: VanillaBlock,
    BlockType.RES_BASIC_BLOCK: ResBasicBlock,
    BlockType.RES_BOTTLENECK_BLOCK: ResBottleneckBlock,
    BlockType.RES_BOTTLENECK_LINEAR_BLOCK: ResBottleneckLinearBlock,
}
_STEMS: dict[StemType, type[nn.Module]] = {
    StemType.RES_STEM_CIFAR: ResStemCifar,
    StemType.RES_STEM_IN: ResStemIN,
    StemType.SIMPLE_STEM_IN: SimpleStemIN,
}


def _member(kind: type[Choice], value: Any, what: str) -> Choice:
    """The member of an enum that is `value` or bears that name, in small or capital letters."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str) and value.lower() in [member.value for member in kind]:
        return kind(value.lower())
    raise ConfigError(f"{what} must be {' or '.join(repr(member.value) for member in kind)}, not {value!r}")


@dataclass
class AnyNetParams:
    """The numbers of an AnyNet; the lists have an entry for each stage.

    Args:
        depths: number of blocks.
        widths: number of output channels.
        group_widths: number of channels of a group of the bottlenecks' 3x3 convolutions.
        bottleneck_multipliers: channels in the middle of a bottleneck per output channel.
        strides: how much smaller the output is in each direction.
        stem_type: a `StemType` or its name, also in small letters.
        stem_width: number of channels after the stem.
        block_type: a `BlockType` or its name.
        activation: an `ActivationType` or its name.
        use_se: give bottlenecks squeeze and excitation.
        se_ratio: channels of its hidden layer per input channel of the block.
        bn_epsilon: epsilon of the batch norms.
        bn_momentum: momentum of the batch norms.

    Raises:
        ComponentError: the lists differ in length, or a number is not positive.
        ConfigError: a type has another name.
    """

    depths: Sequence[int]
    widths: Sequence[int]
    group_widths: Sequence[int]
    bottleneck_multipliers: Sequence[float]
    strides: Sequence[int]
    stem_type: StemType = StemType.SIMPLE_STEM_IN
    stem_width: int = 32
    block_type: BlockType = BlockType.RES_BOTTLENECK_BLOCK
    activation: ActivationType = ActivationType.RELU
    use_se: bool = True
    se_ratio: float | None = 0.25
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.1

    def __post_init__(self) -> None:
        self.stem_type = _member(StemType, self.stem_type, "stem_type")
        self.block_type = _member(BlockType, self.block_type, "block_type")
        self.activation = _member(ActivationType, self.activation, "activation")
        lists = {
            "depths": self.depths,
            "widths": self.widths,
            "group_widths": self.group_widths,
            "bottleneck_multipliers": self.bottleneck_multipliers,
            "strides": self.strides,
        }
        shown = ", ".join(f"{name} {list(values)}" for name, values in lists.items())
        if len({len(values) for values in lists.values()}) > 1 or not self.depths:
            raise ComponentError(f"{shown} must have the same length, one entry a stage, with at least one stage")
        if min(self.stem_width, *(number for values in lists.values() for number in values)) <= 0:
            raise ComponentError(f"{shown} and stem_width {self.stem_width} must be positive")
        if sum(self.depths) > MOST_BLOCKS:
            raise ComponentError(f"depths {self.depths} are {sum(self.depths)} blocks, more than {MOST_BLOCKS}")

    def get_expanded_params(self) -> list[tuple[int, int, int, int, float]]:
        """Returns width, stride, depth, group width and bottleneck multiplier of each stage."""
        stages = (self.widths, self.strides, self.depths, self.group_widths, self.bottleneck_multipliers)
        return list(zip(*stages, strict=True))


class AnyStage(nn.Sequential):
    """A stage: blocks `block{stage_index}-{i}`, of which the first has the stride.

    Args:
        width_in: number of channels of an input.
        width_out: number of channels of an output.
        stride: how much smaller the output is in each direction.
        depth: number of blocks.
        block_constructor: the class of the blocks.
        activation: module that the blocks share.
        group_width, bottleneck_multiplier: as in `AnyNetParams`.
        params: the other numbers of the network.
        stage_index: the stage's number, which is in the names of its blocks.

    Raises:
        ComponentError: the middle of a bottleneck cannot be divided into groups of that width.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        depth: int,
        block_constructor: type[nn.Module],
        activation: nn.Module,
        group_width: int,
        bottleneck_multiplier: float,
        params: AnyNetParams,
        stage_index: int = 0,
    ) -> None:
        middle = round(width_out * bottleneck_multiplier)
        groups = middle // group_width
        grouped = issubclass(block_constructor, ResBottleneckBlock | ResBottleneckLinearBlock)
        if grouped and (not groups or middle % groups):
            raise ComponentError(
                f"stage {stage_index} has {middle} channels in the middle of a bottleneck, which cannot be divided "
                f"into groups of {group_width}: choose a divisor of {middle}"
            )
        super().__init__()
        self.stage_depth = 0
        for i in range(depth):
            block = block_constructor(
                width_in if i == 0 else width_out,
                width_out,
                stride if i == 0 else 1,
                params.bn_epsilon,
                params.bn_momentum,
                activation,
                group_width,
                bottleneck_multiplier,
                params.se_ratio if params.use_se else None,
            )
            self.stage_depth += cast(int, block.depth)
            self.add_module(f"block{stage_index}-{i}", block)


@register_model("anynet")
class AnyNet(ClassyModel):
    """A stem, and under `trunk_output` stages `block{n}` from 1 with blocks `block{n}-{i}` from 0.

    From Radosavovic et al. 2020 (arXiv:2003.13678). The output is the feature map of the last stage.

    Args:
        params: the numbers of the network; in a config they are keys of the model.
    """

    FORMER_KEYS: ClassVar[tuple[str, ...]] = ("num_classes",)
    PARAMS: ClassVar[type[AnyNetParams]] = AnyNetParams

    def __init__(self, params: AnyNetParams) -> None:
        super().__init__()
        activation = nn.ReLU(inplace=RELU_IN_PLACE) if params.activation is ActivationType.RELU else nn.SiLU()
        norm = (params.bn_epsilon, params.bn_momentum)
        self.stem = _STEMS[params.stem_type](3, params.stem_width, *norm, activation)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        self.trunk_depth = 0
        width_in = params.stem_width
        for number, (width, stride, depth, group_width, multiplier) in enumerate(params.get_expanded_params(), 1):
            block_class = _BLOCKS[params.block_type]
            stage = AnyStage(
                width_in, width, stride, depth, block_class, activation, group_width, multiplier, params, number
            )
            self.trunk_depth += stage.stage_depth
            stages[f"block{number}"] = stage
            width_in = width
        self.trunk_output = nn.Sequential(stages)
        self.init_weights()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the trunk from the model's config; `heads` are left to `build_model`."""
        arguments = constructor_arguments(cls, config)
        arguments.pop("heads", None)
        return cls(construct_from(cls.PARAMS, arguments, config.get("name", cls.__name__)))

    @classmethod
    def config_keys(cls) -> Keys:
        """The numbers of the network, and the heads."""
        return with_heads(signature_keys(cls.PARAMS))

    def init_weights(self) -> None:
        """Draws the convolutions' weights (He et al. 2015, arXiv:1502.01852)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk_output(self.stem(x))

    def own_names(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Returns weights under this model's names; it knows those of torchvision, timm and Classy Vision."""
        return super().own_names(timm_names.of_regnet(torchvision_names.of_regnet(former_names.of_gates(weights))))

    def set_classy_state(self, state: Mapping[str, Any], strict: bool = True) -> StateMismatch:
        """Loads a state, also one of Classy Vision; see `ClassyModel`."""
        return super().set_classy_state(former_names.in_trunk_of(state, former_names.of_gates), strict)
