"""What the config of a head must say about the trunk, for messages about a config that does not say it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.models.classy_model import MODEL_REGISTRY, ClassyModel
from ray_classy.models.head_points import block_list, find_block


def head_hint(model: Any, head: Any, key: str) -> str:
    """Returns what to write for a missing key of a head; empty if it depends on more than the config of the model.

    Args:
        model: the config of the model.
        head: that of the head.
        key: `fork_block`, or `in_plane`, which is computed by a pass through the trunk without weights.
    """
    try:
        cls = MODEL_REGISTRY.named_class(model)
        own = {"num_classes": 0} if getattr(cls, "sizes_classifier", False) else {}
        with torch.device("meta"):
            trunk = cls.from_config({**copy.deepcopy(dict(model)), "heads": None, **own})
    except Exception:  # the model has other mistakes, which are reported themselves
        return ""
    channels = _channels(trunk)
    if key == "in_plane":
        found = next((channels[name] for name in channels if name == head.get("fork_block")), None)
        return f"; block {head['fork_block']!r} has {found} channels" if found is not None else ""
    return f"; the blocks of this model are {block_list(trunk, channels)}"


def _channels(trunk: ClassyModel) -> dict[Any, int]:
    """The channels of the output of each block of which they can be computed."""
    seen: dict[Any, int] = {}

    def watch(name: str) -> None:
        def see(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim > 1:
                seen[name] = output.shape[1]

        find_block(trunk, name).register_forward_hook(see)

    for name in trunk.attachable_block_names:
        watch(name)
    with contextlib.suppress(Exception), torch.no_grad():  # it may not run on the meta device, or on such an input
        trunk(torch.zeros(2, *trunk.input_shape, device="meta"))
    return seen


def hint_at(config: Mapping[str, Any], path: tuple[str | int, ...]) -> str:
    """`head_hint` for a path in the config of a task: that of a key of a head, or any other, which has no hint."""
    if len(path) != 4 or path[:2] != ("model", "heads") or path[3] not in ("fork_block", "in_plane"):
        return ""
    model: Any = config["model"]
    return head_hint(model, model["heads"][path[2]], str(path[3])) if isinstance(model, Mapping) else ""
