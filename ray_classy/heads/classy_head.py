"""The base class of heads, their registry, and how one is built from a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.registry import Key, Keys, Registry, construct, reads_signature, signature_keys

HEAD_REGISTRY: Registry[ClassyHead] = Registry(
    "head",
    {
        "fully_connected": "ray_classy.heads.fully_connected_head:FullyConnectedHead",
        "fully_convolutional_linear": ("ray_classy.heads.fully_convolutional_linear_head:FullyConvolutionalLinearHead"),
        "identity": "ray_classy.heads.identity_head:IdentityHead",
        "vision_transformer_head": "ray_classy.heads.vision_transformer_head:VisionTransformerHead",
    },
    unique_class_names=True,
)
register_head = HEAD_REGISTRY.register

NORMALIZE_L2 = "l2"
"""The value of `normalize_inputs` that scales features to unit Euclidean length."""


class ClassyHead(nn.Module):
    """A module that reads the output of one block of a trunk; subclasses define `forward(x)`.

    Args:
        unique_id: the head's name, unique within its model; the class's name if None.
        num_classes: the number of classes, if the head classifies.
    """

    def __init__(self, unique_id: str | None = None, num_classes: int | None = None) -> None:
        super().__init__()
        self.unique_id = unique_id or type(self).__name__
        self.num_classes = num_classes

    @classmethod
    @reads_signature
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the head from its config (without `name` and `fork_block`)."""
        return construct(cls, config)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, and `fork_block`, the block of the trunk that the head reads."""
        return {
            **signature_keys(cls),
            "fork_block": Key(str, doc="name of the block of the model whose output the head takes."),
        }


HEAD_REGISTRY.base = ClassyHead


def check_widths(head: ClassyHead, optional: bool = False, **widths: int | None) -> None:
    """Raises a ComponentError for a number of channels that is not an integer of at least 1, nor None if optional."""
    for name, width in widths.items():
        if not (type(width) is int and width >= 1) and not (optional and width is None):
            error = ComponentError if type(width) is int else ArgumentTypeError
            raise error(f"{name} of head {head.unique_id!r} is {width!r}; it must be an integer of at least 1")


def check_normalization(head: ClassyHead, normalize_inputs: str | None) -> None:
    """Raises a ComponentError for an unknown normalization of the inputs."""
    if normalize_inputs not in (None, NORMALIZE_L2):
        raise ComponentError(
            f"normalize_inputs of head {head.unique_id!r} is {normalize_inputs!r}; choose 'l2' or None"
        )


def build_head(config: Mapping[str, Any]) -> ClassyHead:
    """Builds the head that `config["name"]` chooses.

    Args:
        config: `name`, `unique_id` and the keys of that head; `fork_block`, which the model reads, is ignored.

    Raises:
        UnknownComponentError: no head is registered under the name.
        ComponentError: `unique_id` is missing, or an argument has an invalid value.
    """
    cls = HEAD_REGISTRY.named_class(config)
    if "unique_id" not in config:
        raise ComponentError(
            f"the config of head {config['name']!r} has no `unique_id`: add one that is unique within the model"
        )
    arguments = {key: value for key, value in config.items() if key not in ("name", "fork_block")}
    return cls.from_config(copy.deepcopy(arguments))
