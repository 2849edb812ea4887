"""EfficientNet, and those that go by a name."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import nn

from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.models import timm_names, torchvision_names
from ray_classy.models.classy_model import ClassyModel, register_model, with_heads
from ray_classy.models.mbconv_block import MBConvBlock, swish
from ray_classy.models.mbconv_block import drop_connect as drop_connect
from ray_classy.models.mbconv_block import get_same_padding_for_kernel_size as get_same_padding_for_kernel_size
from ray_classy.registry import Key, Keys, construct_from, constructor_arguments, signature_keys

_STEM_PLANES = 32
_HEAD_PLANES = 1280


class EfficientNetParams(NamedTuple):
    """How an EfficientNet differs from B0.

    Attributes:
        width_coefficient: scales the number of channels.
        depth_coefficient: scales the number of blocks.
        resolution: height and width of the images, in pixels.
        dropout_rate: probability in [0, 1) with which a value before the last layer is zeroed while training.
    """

    width_coefficient: float
    depth_coefficient: float
    resolution: int
    dropout_rate: float


class BlockParams(NamedTuple):
    """A stage of B0.

    Attributes:
        num_repeat: number of blocks.
        kernel_size: of the depthwise convolution.
        stride: of the first block.
        expand_ratio: channels in the middle per input channel.
        input_filters: number of input channels.
        output_filters: number of output channels.
        se_ratio: channels of the gate's hidden layer per input channel.
        id_skip: add a block's input to its output where their shapes are the same.
    """

    num_repeat: int
    kernel_size: int
    stride: int
    expand_ratio: float
    input_filters: int
    output_filters: int
    se_ratio: float
    id_skip: bool


BLOCK_PARAMS = [
    BlockParams(1, 3, 1, 1, 32, 16, 0.25, True),
    BlockParams(2, 3, 2, 6, 16, 24, 0.25, True),
    BlockParams(2, 5, 2, 6, 24, 40, 0.25, True),
    BlockParams(3, 3, 2, 6, 40, 80, 0.25, True),
    BlockParams(3, 5, 1, 6, 80, 112, 0.25, True),
    BlockParams(4, 5, 2, 6, 112, 192, 0.25, True),
    BlockParams(1, 3, 1, 6, 192, 320, 0.25, True),
]
"""The stages of B0 (Tan and Le 2019, arXiv:1905.11946, table 1)."""

MODEL_PARAMS = {
    "B0": EfficientNetParams(1.0, 1.0, 224, 0.2),
    "B1": EfficientNetParams(1.0, 1.1, 240, 0.2),
    "B2": EfficientNetParams(1.1, 1.2, 260, 0.3),
    "B3": EfficientNetParams(1.2, 1.4, 300, 0.3),
    "B4": EfficientNetParams(1.4, 1.8, 380, 0.4),
    "B5": EfficientNetParams(1.6, 2.2, 456, 0.4),
    "B6": EfficientNetParams(1.8, 2.6, 528, 0.5),
    "B7": EfficientNetParams(2.0, 3.1, 600, 0.5),
}


def scale_width(num_filters: int, width_coefficient: float | None, width_divisor: int, min_width: int | None) -> int:
    """Returns a scaled number of channels: the nearest multiple of `width_divisor` that loses at most a tenth.

    Args:
        num_filters: number of channels of B0.
        width_coefficient: scales it; None leaves it as it is.
        width_divisor: divides the result.
        min_width: the least result; `width_divisor` if None.
    """
    if not width_coefficient:
        return num_filters
    scaled = num_filters * width_coefficient
    rounded = max(min_width or width_divisor, int(scaled + width_divisor / 2) // width_divisor * width_divisor)
    return rounded + width_divisor if rounded < 0.9 * scaled else rounded


def scale_depth(num_repeats: int, depth_coefficient: float | None) -> int:
    """Returns a scaled number of blocks, rounded up.

    Args:
        num_repeats: number of blocks of B0.
        depth_coefficient: scales it; None leaves it as it is.
    """
    return math.ceil(depth_coefficient * num_repeats) if depth_coefficient else num_repeats


@register_model("efficientnet")
class EfficientNet(ClassyModel):
    """Inverted bottlenecks `block{stage}-{i}` from 0, `trunk_output` and a classification layer, `fc`.

    From Tan and Le 2019 (arXiv:1905.11946). Heads mostly read `trunk_output`, (N, planes, H / 32, W / 32); `fc` has no
    gradient then, which several workers allow with `distributed.find_unused_parameters`.

    Args:
        num_classes: number of values of one output.
        model_params: how wide, deep and large the network is; in a config, a mapping, or `model_name`: B0 to B7.
        bn_momentum: momentum of the batch norms.
        bn_epsilon: epsilon of the batch norms.
        width_divisor: divides each number of channels.
        min_width: the least number of channels; `width_divisor` if None.
        drop_connect_rate: probability in [0, 1] with which the last block is skipped for a sample while training
            (Huang et al. 2016, arXiv:1603.09382); those before it are skipped less often.
        use_se: use squeeze and excitation in each block.

    The input is (N, 3, H, W); the output is (N, num_classes).

    Raises:
        ComponentError: a number is outside its range, or a config has neither `model_name` nor `model_params`.
    """

    def __init__(
        self,
        num_classes: int,
        model_params: EfficientNetParams,
        bn_momentum: float = 0.01,
        bn_epsilon: float = 1e-3,
        width_divisor: int = 8,
        min_width: int | None = None,
        drop_connect_rate: float | None = 0.2,
        use_se: bool = True,
    ) -> None:
        super().__init__()
        rate = drop_connect_rate or 0.0
        _check(num_classes, model_params, width_divisor, rate)
        self.num_classes = num_classes
        self.image_resolution = model_params.resolution
        self.drop_connect_rate = drop_connect_rate

        def scaled(planes: int) -> int:
            return scale_width(planes, model_params.width_coefficient, width_divisor, min_width)

        def norm(planes: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(planes, eps=bn_epsilon, momentum=bn_momentum)

        self.conv_stem = nn.Conv2d(3, scaled(_STEM_PLANES), kernel_size=3, stride=2, padding=1, bias=False)
        self.bn0 = norm(scaled(_STEM_PLANES))
        depths = [scale_depth(stage.num_repeat, model_params.depth_coefficient) for stage in BLOCK_PARAMS]
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (stage, depth) in enumerate(zip(BLOCK_PARAMS, depths, strict=True)):
            for i in range(depth):
                blocks[f"block{number}-{i}"] = MBConvBlock(
                    scaled(stage.input_filters if i == 0 else stage.output_filters),
                    scaled(stage.output_filters),
                    stage.expand_ratio,
                    stage.kernel_size,
                    stage.stride if i == 0 else 1,
                    stage.se_ratio,
                    stage.id_skip,
                    use_se,
                    bn_momentum,
                    bn_epsilon,
                    drop_connect_rate=rate * len(blocks) / sum(depths),
                )
        self.blocks = nn.Sequential(blocks)
        planes = scaled(_HEAD_PLANES)
        self.conv_head = nn.Conv2d(scaled(BLOCK_PARAMS[-1].output_filters), planes, kernel_size=1, bias=False)
        self.bn1 = norm(planes)
        self.trunk_output = nn.Identity()
        self.avg_pooling = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(model_params.dropout_rate)
        self.fc = nn.Linear(planes, num_classes)
        self.init_weights()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the network from the model's config; `heads` are left to `build_model`."""
        arguments = constructor_arguments(cls, config)
        arguments.pop("heads", None)
        name = arguments.pop("model_name", None)
        if name is not None:
            if name not in MODEL_PARAMS:
                raise ComponentError(f"model_name is {name!r}; expected one of {', '.join(MODEL_PARAMS)}")
            params = MODEL_PARAMS[name]
        elif "model_params" in arguments:
            params = _params(arguments["model_params"])
        else:
            raise ComponentError("an efficientnet needs model_name (B0 to B7) or model_params")
        arguments["model_params"] = params
        return construct_from(cls, arguments, config.get("name", cls.__name__))

    @classmethod
    def config_keys(cls) -> Keys:
        """The constructor's arguments, `model_name`, and the heads."""
        keys = {**signature_keys(cls), "model_name": Key(str | None, None, "B0 to B7, in place of `model_params`.")}
        keys["model_params"] = Key(dict[str, Any] | None, None)
        return with_heads(keys)

    def init_weights(self) -> None:
        """Draws the weights: those of convolutions as He et al. 2015 (arXiv:1502.01852), the last layer's uniformly."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bound = 1 / math.sqrt(self.num_classes)
        nn.init.uniform_(self.fc.weight, -bound, bound)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.blocks(swish(self.bn0(self.conv_stem(inputs)), inplace=True))
        x = self.trunk_output(swish(self.bn1(self.conv_head(x)), inplace=True))
        return self.fc(self.dropout(self.avg_pooling(x).flatten(1)))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, self.image_resolution, self.image_resolution)

    def own_names(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Returns weights under this model's names; it knows those of torchvision, timm and Classy Vision."""
        return super().own_names(timm_names.of_efficientnet(torchvision_names.of_efficientnet(weights)))


def _params(given: Any) -> EfficientNetParams:
    """The values of a config's `model_params`."""
    if not isinstance(given, Mapping) or given.keys() != set(EfficientNetParams._fields):
        raise ComponentError(
            f"model_params of an efficientnet is {given!r}; expected {', '.join(EfficientNetParams._fields)}"
        )
    return EfficientNetParams(**given)


def _check(num_classes: int, params: EfficientNetParams, width_divisor: int, drop_connect_rate: float) -> None:
    """Refuses numbers that build no network."""
    for name, number in {"num_classes": num_classes, "width_divisor": width_divisor, **params._asdict()}.items():
        if name != "dropout_rate" and not number > 0:
            raise ComponentError(f"{name} of an efficientnet is {number}; it must be positive")
    if not 0 <= params.dropout_rate < 1 or not 0 <= drop_connect_rate <= 1:
        raise ComponentError(
            f"dropout_rate {params.dropout_rate} of an efficientnet must be in [0, 1), and drop_connect_rate "
            f"{drop_connect_rate} in [0, 1]"
        )


class _Named(EfficientNet):
    """An EfficientNet whose arguments are fixed by its name, with 1000 classes.

    Args:
        kwargs: arguments of `EfficientNet`, without effect: Classy Vision passes the keys of a config.

    Raises:
        ComponentError: an argument has another name.
    """

    FORMER_KEYS: ClassVar[tuple[str, ...]] = (*signature_keys(EfficientNet), "model_name")
    MODEL: ClassVar[str] = "B0"

    def __init__(self, **kwargs: Any) -> None:
        unknown = sorted(kwargs.keys() - set(self.FORMER_KEYS))
        if unknown:
            raise ArgumentTypeError(f"{type(self).__name__} has no argument {', '.join(unknown)}")
        super().__init__(1000, MODEL_PARAMS[self.MODEL])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the network; the arguments of `EfficientNet` are accepted without effect."""
        arguments = constructor_arguments(cls, config)
        arguments.pop("heads", None)
        return cls(**arguments)

    @classmethod
    def config_keys(cls) -> Keys:
        """The heads."""
        return with_heads({})


@register_model("efficientnet_b0")
class EfficientNetB0(_Named):
    """EfficientNet-B0."""

    MODEL = "B0"


@register_model("efficientnet_b1")
class EfficientNetB1(_Named):
    """EfficientNet-B1."""

    MODEL = "B1"


@register_model("efficientnet_b2")
class EfficientNetB2(_Named):
    """EfficientNet-B2."""

    MODEL = "B2"


@register_model("efficientnet_b3")
class EfficientNetB3(_Named):
    """EfficientNet-B3."""

    MODEL = "B3"


@register_model("efficientnet_b4")
class EfficientNetB4(_Named):
    """EfficientNet-B4."""

    MODEL = "B4"


@register_model("efficientnet_b5")
class EfficientNetB5(_Named):
    """EfficientNet-B5."""

    MODEL = "B5"


@register_model("efficientnet_b6")
class EfficientNetB6(_Named):
    """EfficientNet-B6."""

    MODEL = "B6"


@register_model("efficientnet_b7")
class EfficientNetB7(_Named):
    """EfficientNet-B7."""

    MODEL = "B7"
