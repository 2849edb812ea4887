"""The counters of batches of batch-norm layers, which are not learned, in files of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_COUNTER, _MEAN = "num_batches_tracked", "running_mean"


def fit_counters(own: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Fits the counters in weights to a model's.

    Files of torch before 0.4.1 have none, the first weights of torchvision among them; and where someone has converted
    all numbers of a file to half precision, they are no integers any more.

    Args:
        own: entries of the model.
        given: the weights by the model's names.

    Returns:
        The weights with all counters of the layers that they have, and the names of those that were the model's own.
    """
    fitted, filled = dict(given), set()
    for name, value in own.items():
        if not name.endswith(_COUNTER):
            continue
        counter = given.get(name)
        if isinstance(counter, torch.Tensor) and counter.is_floating_point():
            fitted[name] = torch.nan_to_num(counter.detach(), nan=0, posinf=0, neginf=0).to(torch.int64)
        elif counter is None and f"{name.removesuffix(_COUNTER)}{_MEAN}" in given:
            fitted[name] = value
            filled.add(name)
    return fitted, filled
