"""Whether one rank alone can run the model."""

from __future__ import annotations

import logging

from torch import nn

from ray_classy.distributed import is_primary

_log = logging.getLogger(__name__)


def can_run_alone(model: nn.Module, what: str) -> bool:
    """Returns whether this rank has all parameters; if not, the primary rank logs that something is left out.

    A forward pass of a model whose parameters are sharded gathers them from all ranks, so that one rank alone would
    wait for ever.

    Args:
        model: of the task.
        what: is left out.
    """
    if not any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):  # a DTensor
        return True
    if is_primary():
        _log.warning("%s: its parameters are sharded over the ranks; do it with a checkpoint, in one process", what)
    return False
