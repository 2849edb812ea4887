"""The old spelling of the strategy that deals an optimizer's state to the ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_classy.errors import ComponentError
from ray_classy.optim.classy_optimizer import ClassyOptimizer, build_optimizer, register_optimizer
from ray_classy.optim.param_groups import Group


@register_optimizer("zero")
class ZeRO(ClassyOptimizer):
    """Another optimizer, whose state is dealt to the ranks: `distributed.strategy: zero` as Classy Vision spells it.

    Its state in a checkpoint is that of the other one.

    Args:
        base_optimizer: an optimizer, or its config.

    Raises:
        ComponentError: it is something else.
    """

    deals_state = True

    def __init__(self, base_optimizer: ClassyOptimizer) -> None:
        super().__init__()
        given: Any = base_optimizer
        self.base_optimizer = build_optimizer(given) if isinstance(given, Mapping) else base_optimizer
        if not isinstance(self.base_optimizer, ClassyOptimizer):
            raise ComponentError(f"base_optimizer must be an optimizer or its config, not {given!r}")

    @property
    def type_name(self) -> str:
        """That of the other optimizer."""
        return self.base_optimizer.type_name

    def prepare(self, param_groups: list[Group]) -> None:
        """Makes the torch optimizer of these groups."""
        self.base_optimizer.prepare(param_groups)
        self.optimizer = self.base_optimizer.optimizer
