"""DenseNet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models import former_names, torchvision_names
from ray_classy.models.classy_model import ClassyModel, register_model
from ray_classy.models.model_state import StateMismatch
from ray_classy.models.residual_block import INPLACE, InitialBlock, SmallInputInitialBlock

_MOST_LAYERS = 10_000  # so that a slip in a number does not build a model for hours
_REDUCTION = 2  # of planes, height and width between blocks


class _DenseLayer(nn.Sequential):
    """Appends `growth_rate` planes, computed by a 1x1 and a 3x3 convolution, to its input."""

    def __init__(self, in_planes: int, growth_rate: int, expansion: int, se_reduction_ratio: int | None) -> None:
        middle = growth_rate * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["norm-1"] = nn.BatchNorm2d(in_planes)
        layers["relu-1"] = nn.ReLU(inplace=INPLACE)
        layers["conv-1"] = nn.Conv2d(in_planes, middle, kernel_size=1, bias=False)
        layers["norm-2"] = nn.BatchNorm2d(middle)
        layers["relu-2"] = nn.ReLU(inplace=INPLACE)
        layers["conv-2"] = nn.Conv2d(middle, growth_rate, kernel_size=3, padding=1, bias=False)
        if se_reduction_ratio is not None:
            # It is torchvision's, which takes seconds to import: only when a model is built.
            from ray_classy.models.squeeze_and_excitation_layer import SqueezeAndExcitationLayer

            layers["se"] = SqueezeAndExcitationLayer(growth_rate, se_reduction_ratio)
        super().__init__(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, super().forward(x)], dim=1)


class _Transition(nn.Sequential):
    """Halves planes, height and width."""

    def __init__(self, in_planes: int, out_planes: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["pool-norm"] = nn.BatchNorm2d(in_planes)
        layers["pool-relu"] = nn.ReLU(inplace=INPLACE)
        layers["pool-conv"] = nn.Conv2d(in_planes, out_planes, kernel_size=1, bias=False)
        layers["pool-pool"] = nn.AvgPool2d(kernel_size=_REDUCTION, stride=_REDUCTION)
        super().__init__(layers)


@register_model("densenet")
class DenseNet(ClassyModel):
    """Blocks of layers each of which reads the outputs of all layers before it (Huang et al. 2017, arXiv:1608.06993).

    Layers are named `block{stage}-{i}`, what is between blocks `transition-{stage}`, both from 0; the output is that
    of `trunk_output`, the last block's planes after batch norm and ReLU.

    Args:
        num_blocks: number of layers of each block.
        num_classes: has no effect; classes are a matter of heads.
        init_planes: number of planes after the stem.
        growth_rate: number of planes that each layer adds.
        expansion: how many times more planes the middle of a layer has than it adds.
        small_input: for images of about 32 pixels: a 3x3 stem without pooling.
        final_bn_relu: end with batch norm and ReLU.
        use_se: end each layer with squeeze and excitation.
        se_reduction_ratio: its reduction ratio, at most `growth_rate`.

    The input is (N, 3, H, W); the output is (N, planes, H / 32, W / 32) for four blocks (small input: H / 8, W / 8).

    Raises:
        ComponentError: a number is not a positive integer.
    """

    def __init__(
        self,
        num_blocks: list[int],
        num_classes: int | None = None,
        init_planes: int = 64,
        growth_rate: int = 32,
        expansion: int = 4,
        small_input: bool = False,
        final_bn_relu: bool = True,
        use_se: bool = False,
        se_reduction_ratio: int = 16,
    ) -> None:
        super().__init__()
        _check(num_blocks, small_input, init_planes=init_planes, growth_rate=growth_rate, expansion=expansion)
        self.num_blocks = num_blocks
        self.small_input = small_input
        self.initial_block = SmallInputInitialBlock(init_planes) if small_input else InitialBlock(init_planes)
        features: OrderedDict[str, nn.Module] = OrderedDict()
        planes = init_planes
        for stage, depth in enumerate(num_blocks):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range(depth):
                ratio = se_reduction_ratio if use_se else None
                layers[f"block{stage}-{i}"] = _DenseLayer(planes, growth_rate, expansion, ratio)
                planes += growth_rate
            features[f"block_{stage}"] = nn.Sequential(layers)
            if stage != len(num_blocks) - 1:
                features[f"transition-{stage}"] = _Transition(planes, planes // _REDUCTION)
                planes //= _REDUCTION
        last: OrderedDict[str, nn.Module] = OrderedDict()
        if final_bn_relu:
            last["norm-final"] = nn.BatchNorm2d(planes)
            last["relu-final"] = nn.ReLU(inplace=INPLACE)
        features["trunk_output"] = nn.Sequential(last)
        self.features = nn.Sequential(features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(self.initial_block(x))

    def own_names(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Returns weights under this model's names; it knows those of torchvision, timm and Classy Vision."""
        return super().own_names(torchvision_names.of_densenet(former_names.of_gates(weights)))

    def set_classy_state(self, state: Mapping[str, Any], strict: bool = True) -> StateMismatch:
        """Loads a state, also one of Classy Vision; see `ClassyModel`."""
        return super().set_classy_state(former_names.in_trunk_of(state, former_names.of_gates), strict)


def _check(num_blocks: Any, small_input: Any, **numbers: Any) -> None:
    """Refuses what builds no network."""
    if not isinstance(num_blocks, list | tuple) or not num_blocks:
        raise ComponentError(f"num_blocks is {num_blocks!r}; expected a list with the number of layers of each block")
    for name, number in [*(("num_blocks", number) for number in num_blocks), *numbers.items()]:
        if type(number) is not int or number < 1:
            raise ComponentError(f"{name} of a densenet has {number!r}; expected an integer of at least 1")
    if not isinstance(small_input, bool):
        raise ComponentError(f"small_input of a densenet is {small_input!r}; expected true or false")
    if sum(num_blocks) > _MOST_LAYERS:
        raise ComponentError(f"num_blocks {num_blocks} are {sum(num_blocks)} layers, more than {_MOST_LAYERS}")
