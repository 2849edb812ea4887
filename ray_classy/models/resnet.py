"""ResNet, and the ResNets and ResNeXts that go by a name."""

from __future__ import annotations

from typing import Any, ClassVar

from ray_classy.errors import ArgumentNameError, ComponentError
from ray_classy.models.classy_model import register_model, with_heads
from ray_classy.models.resnext import ResNeXt
from ray_classy.registry import Key, Keys, signature_keys


@register_model("resnet")
class ResNet(ResNeXt):
    """A ResNeXt with one group (He et al. 2016, arXiv:1512.03385).

    Args:
        num_blocks: number of blocks of each stage.
        options: further arguments of `ResNeXt`; `base_width_and_cardinality` must be None.

    Raises:
        ComponentError: a number is not positive, or there is a base width.
    """

    def __init__(self, num_blocks: list[int], **options: Any) -> None:
        if options.get("base_width_and_cardinality") is not None:
            raise ComponentError(
                f"base_width_and_cardinality is {options['base_width_and_cardinality']}, but a resnet has one group: "
                "leave it out, or use the model 'resnext'"
            )
        super().__init__(num_blocks, **options)

    @classmethod
    def config_keys(cls) -> Keys:
        """Those of a ResNeXt."""
        return with_heads(signature_keys(ResNeXt))


class _Named(ResNeXt):
    """A ResNeXt some of whose arguments are FIXED by its name.

    Args:
        options: the other arguments of `ResNeXt`; `zero_init_bn_residuals` is True unless given.

    Raises:
        ArgumentNameError: an argument is one that the name fixes.
        ComponentError: an argument is impossible.
    """

    FIXED: ClassVar[dict[str, Any]] = {}

    def __init__(self, **options: Any) -> None:
        fixed = sorted(options.keys() & self.FIXED.keys())
        if fixed:
            raise ArgumentNameError(
                f"{', '.join(fixed)} cannot be given to {type(self).__name__}, whose name fixes it: "
                "leave it out, or use the model 'resnext'"
            )
        super().__init__(**{"zero_init_bn_residuals": True, **options, **self.FIXED})

    @classmethod
    def config_keys(cls) -> Keys:
        """The arguments of a ResNeXt that the name leaves open."""
        keys = signature_keys(ResNeXt, skip=frozenset(cls.FIXED))
        return with_heads({**keys, "zero_init_bn_residuals": Key(bool, True)})


def _basic(*num_blocks: int) -> dict[str, Any]:
    return {"num_blocks": list(num_blocks), "basic_layer": True, "reduction": 1, "base_width_and_cardinality": None}


def _bottleneck(*num_blocks: int, groups: tuple[int, int] | None = None) -> dict[str, Any]:
    return {"num_blocks": list(num_blocks), "basic_layer": False, "base_width_and_cardinality": groups}


@register_model("resnet18")
class ResNet18(_Named):
    """ResNet with 18 layers."""

    FIXED = _basic(2, 2, 2, 2)


@register_model("resnet34")
class ResNet34(_Named):
    """ResNet with 34 layers."""

    FIXED = _basic(3, 4, 6, 3)


@register_model("resnet50")
class ResNet50(_Named):
    """ResNet with 50 layers."""

    FIXED = _bottleneck(3, 4, 6, 3)


@register_model("resnet101")
class ResNet101(_Named):
    """ResNet with 101 layers."""

    FIXED = _bottleneck(3, 4, 23, 3)


@register_model("resnet152")
class ResNet152(_Named):
    """ResNet with 152 layers."""

    FIXED = _bottleneck(3, 8, 36, 3)


@register_model("resnext50_32x4d")
class ResNeXt50(_Named):
    """ResNeXt with 50 layers and 32 groups of width 4."""

    FIXED = _bottleneck(3, 4, 6, 3, groups=(4, 32))


@register_model("resnext101_32x4d")
class ResNeXt101(_Named):
    """ResNeXt with 101 layers and 32 groups of width 4."""

    FIXED = _bottleneck(3, 4, 23, 3, groups=(4, 32))


@register_model("resnext152_32x4d")
class ResNeXt152(_Named):
    """ResNeXt with 152 layers and 32 groups of width 4."""

    FIXED = _bottleneck(3, 8, 36, 3, groups=(4, 32))
