"""RegNet, and the RegNets that go by a name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar, Self

from ray_classy.errors import ArgumentNameError, ComponentError
from ray_classy.models.anynet import MOST_BLOCKS, ActivationType, AnyNet, AnyNetParams, BlockType, StemType
from ray_classy.models.classy_model import register_model, with_heads
from ray_classy.registry import Keys, construct_from, constructor_arguments, signature_keys

_QUANTUM = 8  # widths are multiples of it
_STRIDE = 2  # of each stage


class RegNetParams(AnyNetParams):
    """The numbers of a RegNet, from which those of an AnyNet follow (Radosavovic et al. 2020, arXiv:2003.13678).

    Block i has width `w_0 + w_a * i`, quantized to the nearest `w_0 * w_m**n` and then to a multiple of 8; blocks of
    the same width are a stage.

    Args:
        depth: number of blocks, at most 10000.
        w_0: width of the first block, a multiple of 8.
        w_a: by how much the width grows from block to block, at least 0.
        w_m: how many times wider a stage is than the one before, more than 1.
        group_width: number of channels of a group of the 3x3 convolutions; where a stage is narrower, its width.
        bottleneck_multiplier: channels in the middle of a bottleneck per output channel.
        stem_type, stem_width, block_type, activation, use_se, se_ratio, bn_epsilon, bn_momentum: as in
            `AnyNetParams`.

    Raises:
        ComponentError: a number is outside its range.
        ConfigError: a type has another name.
    """

    def __init__(
        self,
        depth: int,
        w_0: int,
        w_a: float,
        w_m: float,
        group_width: int,
        bottleneck_multiplier: float = 1.0,
        stem_type: StemType = StemType.SIMPLE_STEM_IN,
        stem_width: int = 32,
        block_type: BlockType = BlockType.RES_BOTTLENECK_BLOCK,
        activation: ActivationType = ActivationType.RELU,
        use_se: bool = True,
        se_ratio: float | None = 0.25,
        bn_epsilon: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        if w_a < 0 or w_0 <= 0 or w_m <= 1 or w_0 % _QUANTUM:
            raise ComponentError(
                f"w_a {w_a} must be at least 0, w_m {w_m} more than 1, and w_0 {w_0} a positive multiple of {_QUANTUM}"
            )
        if not 0 < depth <= MOST_BLOCKS or group_width <= 0 or bottleneck_multiplier <= 0:
            raise ComponentError(
                f"depth {depth}, group_width {group_width} and bottleneck_multiplier {bottleneck_multiplier} must be "
                f"positive, and depth at most {MOST_BLOCKS}"
            )
        self.depth, self.w_0, self.w_a, self.w_m = depth, w_0, w_a, w_m
        self.group_width, self.bottleneck_multiplier = group_width, bottleneck_multiplier
        stages = [(width, len(list(blocks))) for width, blocks in groupby(self._block_widths())]
        multipliers = [bottleneck_multiplier] * len(stages)
        widths, group_widths = _adjust_widths_groups_compatibilty(
            [width for width, _ in stages], multipliers, [group_width] * len(stages)
        )
        super().__init__(
            depths=[blocks for _, blocks in stages],
            widths=widths,
            group_widths=group_widths,
            bottleneck_multipliers=multipliers,
            strides=[_STRIDE] * len(stages),
            stem_type=stem_type,
            stem_width=stem_width,
            block_type=block_type,
            activation=activation,
            use_se=use_se,
            se_ratio=se_ratio,
            bn_epsilon=bn_epsilon,
            bn_momentum=bn_momentum,
        )

    def _block_widths(self) -> list[int]:
        steps = [math.log((self.w_0 + self.w_a * i) / self.w_0) / math.log(self.w_m) for i in range(self.depth)]
        return [_quantize_float(self.w_0 * self.w_m ** round(step), _QUANTUM) for step in steps]


def _quantize_float(f: float, q: int) -> int:
    """The multiple of `q` nearest to `f`."""
    return round(f / q) * q


def _adjust_widths_groups_compatibilty(
    stage_widths: Sequence[int], bottleneck_ratios: Sequence[float], group_widths: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Returns widths and group widths of stages such that the middle of a bottleneck consists of whole groups."""
    middles = [int(width * ratio) for width, ratio in zip(stage_widths, bottleneck_ratios, strict=True)]
    groups = [min(group, middle) for group, middle in zip(group_widths, middles, strict=True)]
    whole = [_quantize_float(middle, group) if group else 0 for middle, group in zip(middles, groups, strict=True)]
    return [int(middle / ratio) for middle, ratio in zip(whole, bottleneck_ratios, strict=True)], groups


@register_model("regnet")
class RegNet(AnyNet):
    """An AnyNet whose widths follow from a few numbers.

    Args:
        params: the numbers of the network; in a config they are keys of the model.
    """

    PARAMS = RegNetParams

    def __init__(self, params: RegNetParams) -> None:
        super().__init__(params)


class _Named(RegNet):
    """A RegNet some of whose numbers are FIXED by its name.

    Args:
        options: the other arguments of `RegNetParams`.

    Raises:
        ArgumentNameError: an argument is one that the name fixes, or has another name than those of `RegNetParams`.
        ComponentError: an argument is outside its range.
    """

    FORMER_KEYS = ()
    FIXED: ClassVar[dict[str, Any]] = {}

    def __init__(self, **options: Any) -> None:
        fixed = sorted(options.keys() & self.FIXED.keys())
        if fixed:
            raise ArgumentNameError(
                f"{', '.join(fixed)} cannot be given to {type(self).__name__}, whose name fixes it: "
                "leave it out, or use the model 'regnet'"
            )
        super().__init__(construct_from(RegNetParams, {**self.FIXED, **options}, type(self).__name__))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the trunk from the model's config; `heads` are left to `build_model`."""
        arguments = constructor_arguments(cls, config)
        arguments.pop("heads", None)
        return cls(**arguments)

    @classmethod
    def config_keys(cls) -> Keys:
        """The numbers that the name leaves open, and the heads."""
        return with_heads(signature_keys(RegNetParams, skip=frozenset(cls.FIXED)))


def _y(depth: int, w_0: int, w_a: float, w_m: float, group_width: int) -> dict[str, Any]:
    return {"depth": depth, "w_0": w_0, "w_a": w_a, "w_m": w_m, "group_width": group_width}


def _x(*numbers: Any) -> dict[str, Any]:
    return {**_y(*numbers), "use_se": False}


def _z(*numbers: Any) -> dict[str, Any]:
    linear = {"block_type": BlockType.RES_BOTTLENECK_LINEAR_BLOCK, "activation": ActivationType.SILU}
    return {**_y(*numbers), **linear, "bottleneck_multiplier": 4.0}


@register_model("regnet_y_400mf")
class RegNetY400mf(_Named):
    """RegNetY with 400 million multiply-adds an image."""

    FIXED = _y(16, 48, 27.89, 2.09, 8)


@register_model("regnet_y_800mf")
class RegNetY800mf(_Named):
    """RegNetY with 800 million multiply-adds an image."""

    FIXED = _y(14, 56, 38.84, 2.4, 16)


@register_model("regnet_y_1.6gf")
class RegNetY1_6gf(_Named):
    """RegNetY with 1.6 billion multiply-adds an image."""

    FIXED = _y(27, 48, 20.71, 2.65, 24)


@register_model("regnet_y_3.2gf")
class RegNetY3_2gf(_Named):
    """RegNetY with 3.2 billion multiply-adds an image."""

    FIXED = _y(21, 80, 42.63, 2.66, 24)


@register_model("regnet_y_8gf")
class RegNetY8gf(_Named):
    """RegNetY with 8 billion multiply-adds an image."""

    FIXED = _y(17, 192, 76.82, 2.19, 56)


@register_model("regnet_y_16gf")
class RegNetY16gf(_Named):
    """RegNetY with 16 billion multiply-adds an image."""

    FIXED = _y(18, 200, 106.23, 2.48, 112)


@register_model("regnet_y_32gf")
class RegNetY32gf(_Named):
    """RegNetY with 32 billion multiply-adds an image."""

    FIXED = _y(20, 232, 115.89, 2.53, 232)


@register_model("regnet_y_64gf")
class RegNetY64gf(_Named):
    """RegNetY with 64 billion multiply-adds an image."""

    FIXED = _y(20, 352, 147.48, 2.4, 328)


@register_model("regnet_y_128gf")
class RegNetY128gf(_Named):
    """RegNetY with 128 billion multiply-adds an image."""

    FIXED = _y(27, 456, 160.83, 2.52, 264)


@register_model("regnet_y_256gf")
class RegNetY256gf(_Named):
    """RegNetY with 256 billion multiply-adds an image."""

    FIXED = _y(27, 640, 124.47, 2.04, 848)


@register_model("regnet_x_400mf")
class RegNetX400mf(_Named):
    """RegNetX with 400 million multiply-adds an image, without squeeze and excitation."""

    FIXED = _x(22, 24, 24.48, 2.54, 16)


@register_model("regnet_x_800mf")
class RegNetX800mf(_Named):
    """RegNetX with 800 million multiply-adds an image, without squeeze and excitation."""

    FIXED = _x(16, 56, 35.73, 2.28, 16)


@register_model("regnet_x_1.6gf")
class RegNetX1_6gf(_Named):
    """RegNetX with 1.6 billion multiply-adds an image, without squeeze and excitation."""

    FIXED = _x(18, 80, 34.01, 2.25, 24)


@register_model("regnet_x_3.2gf")
class RegNetX3_2gf(_Named):
    """RegNetX with 3.2 billion multiply-adds an image, without squeeze and excitation."""

    FIXED = _x(25, 88, 26.31, 2.25, 48)


@register_model("regnet_x_8gf")
class RegNetX8gf(_Named):
    """RegNetX with 8 billion multiply-adds an image, without squeeze and excitation."""

    FIXED = _x(23, 80, 49.56, 2.88, 120)


@register_model("regnet_x_16gf")
class RegNetX16gf(_Named):
    """RegNetX with 16 billion multiply-adds an image, without squeeze and excitation."""

    FIXED = _x(22, 216, 55.59, 2.1, 128)


@register_model("regnet_x_32gf")
class RegNetX32gf(_Named):
    """RegNetX with 32 billion multiply-adds an image, without squeeze and excitation."""

    FIXED = _x(23, 320, 69.86, 2.0, 168)


@register_model("regnet_z_500mf")
class RegNetZ500mf(_Named):
    """RegNetZ with 500 million multiply-adds an image, of linear bottlenecks."""

    FIXED = _z(21, 16, 10.7, 2.51, 4)


@register_model("regnet_z_4gf")
class RegNetZ4gf(_Named):
    """RegNetZ with 4 billion multiply-adds an image, of linear bottlenecks."""

    FIXED = _z(28, 48, 14.5, 2.226, 8)
