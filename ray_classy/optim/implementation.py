"""How torch computes an update: one parameter after the other, in lists (foreach), or in few kernels (fused).

Where a config leaves it open, fused kernels are used on CPUs: there torch would take one parameter after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.optim.param_groups import Group
from ray_classy.registry import Key, Keys

_DOCS = {
    "foreach": "whether an update works on lists of parameters, in fewer kernels; null lets torch choose.",
    "fused": "whether an update of all parameters is computed in few kernels; null does so on CPUs.",
}
IMPLEMENTATIONS = tuple(_DOCS)
"""The options that choose one."""


def implementation_keys(names: Sequence[str]) -> Keys:
    """Returns the config keys of an optimizer whose torch class has these implementations."""
    return {name: Key(bool | None, None, _DOCS[name]) for name in names}


def check_implementation(chosen: Mapping[str, Any]) -> dict[str, bool]:
    """Returns the implementations that are chosen, by name, without those that are left to torch.

    Raises:
        ComponentError: a value is not true, false or None, or both are chosen.
    """
    for name, value in chosen.items():
        if value is not None and type(value) is not bool:
            raise ComponentError(f"{name} must be true, false or null (None in Python), not {value!r}")
    if chosen.get("foreach") and chosen.get("fused"):
        raise ComponentError("foreach and fused are two ways to compute an update: set one of them to true")
    return {name: value for name, value in chosen.items() if value is not None}


def fused_pays(param_groups: Sequence[Group]) -> bool:
    """Whether fused kernels can update these parameters and are faster than what torch would choose: on CPUs."""
    return all(
        type(parameter) in (nn.Parameter, torch.Tensor)
        and parameter.device.type == "cpu"
        and parameter.dtype in (torch.float32, torch.float64)
        for group in param_groups
        for parameter in group["params"]
    )
