"""The classifier of a network that has it in its trunk: the last layer, of one output per class."""

from __future__ import annotations

from typing import Any

from torch import nn

from ray_classy.models.head_points import HEADS, in_trunk

_NAMES = {"fc", "classifier", "head", "heads", "head_dist", "last_linear", "AuxLogits", "aux1", "aux2", HEADS}
"""The first parts of the names under which libraries keep their classifiers, main and auxiliary."""
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def is_classifier(name: str) -> bool:
    """Whether an entry of a state dict has a name of a classifier, also behind the name of a wrapped module."""
    return any(part in _NAMES for part in name.split(".")[:-1][:2])


def own_classifier(model: Any) -> set[str]:
    """Returns the names of a model's entries that are its classifier in the trunk; none if it has heads.

    It is the last linear or convolutional layer, with those of an auxiliary classifier that has as many outputs.
    """
    if model.get_heads():
        return set()
    layers = {name: module for name, module in model.named_modules() if in_trunk(name) and isinstance(module, _LAYERS)}
    if not layers:
        return set()
    named = {name: layer for name, layer in layers.items() if is_classifier(f"{name}.weight")} or layers
    last = next(reversed(named))
    alike = [name for name, layer in named.items() if named is not layers and _outputs(layer) == _outputs(named[last])]
    chosen = tuple(f"{name}." for name in {last, *alike})
    return {name for name in model.state_dict() if name.startswith(chosen)}


def _outputs(layer: nn.Module) -> int:
    return int(layer.weight.shape[0])  # type: ignore[index]
