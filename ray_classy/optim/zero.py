"""Classy Vision's spelling of the strategy that shards an optimizer's state across ranks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ray_classy.errors import ComponentError
from ray_classy.optim.classy_optimizer import ClassyOptimizer, build_optimizer, register_optimizer
from ray_classy.optim.param_groups import Group
from ray_classy.optim.saved_state import buffers_of


@register_optimizer("zero")
class ZeRO(ClassyOptimizer):
    """Shards the state of another optimizer across ranks; the same as `distributed.strategy: zero`.

    Checkpoints have the state of the other optimizer.

    Args:
        base_optimizer: an optimizer, or its config.

    Raises:
        ComponentError: `base_optimizer` is neither.
    """

    shards_state = True

    def __init__(self, base_optimizer: ClassyOptimizer) -> None:
        super().__init__()
        given: Any = base_optimizer
        self.base_optimizer = build_optimizer(given) if isinstance(given, Mapping) else base_optimizer
        if not isinstance(self.base_optimizer, ClassyOptimizer):
            raise ComponentError(f"base_optimizer must be an optimizer or its config, not {given!r}")

    @property
    def type_name(self) -> str:
        """The name that a checkpoint has for the other optimizer's type."""
        return self.base_optimizer.type_name

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        return buffers_of(self.base_optimizer, options)

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.base_optimizer.prepare(param_groups)
        self.optimizer = self.base_optimizer.optimizer
