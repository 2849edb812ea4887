"""The base class of heads, their registry, and how one is built from a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.registry import Key, Keys, Registry, constructor_arguments, reads_signature, signature_keys

HEAD_REGISTRY: Registry[ClassyHead] = Registry(
    "head",
    {
        "fully_connected": "ray_classy.heads.fully_connected_head:FullyConnectedHead",
        "identity": "ray_classy.heads.identity_head:IdentityHead",
    },
    unique_class_names=True,
)
register_head = HEAD_REGISTRY.register


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
        return cls(**constructor_arguments(cls, config))

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, and `fork_block`, the block of the trunk that the head reads."""
        return {**signature_keys(cls), "fork_block": Key(str)}


HEAD_REGISTRY.base = ClassyHead


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
