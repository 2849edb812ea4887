"""Classy Vision's spelling of the strategy that shards an optimizer's state across ranks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ray_classy.errors import ComponentError
from ray_classy.optim.classy_optimizer import ClassyOptimizer, build_optimizer, register_optimizer
from ray_classy.optim.param_groups import Group
from ray_classy.optim.param_scheduler import ParamScheduler
from ray_classy.optim.saved_state import buffers_of
from ray_classy.optim.trained_parameters import Trained


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
        self.needs_whole_parameters = self.base_optimizer.needs_whole_parameters
        self._consolidated: dict[str, Any] | None = None

    @property
    def type_name(self) -> str:
        """The name that a checkpoint has for the other optimizer's type."""
        return self.base_optimizer.type_name

    def make_groups(
        self, trained: Sequence[Trained], schedulers: Mapping[str, ParamScheduler], bn_weight_decay: bool
    ) -> list[Group]:
        """Returns the groups of the other optimizer."""
        if self.base_optimizer.layer_decay is None:
            self.base_optimizer.layer_decay = self.layer_decay
        return self.base_optimizer.make_groups(trained, schedulers, bn_weight_decay)

    def flags(self) -> dict[str, bool]:
        """Returns the flags of the other optimizer."""
        return self.base_optimizer.flags()

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        return buffers_of(self.base_optimizer, options)

    def parts(self) -> Sequence[ClassyOptimizer]:
        """Returns the parts of the other optimizer."""
        return self.base_optimizer.parts()

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self._consolidated = None
        self.base_optimizer.prepare(param_groups)
        self.optimizer = self.base_optimizer.optimizer

    def consolidate_state_dict(self) -> None:
        """Gathers the state of all ranks, so that `get_classy_state` returns it on one rank alone.

        Every rank must call it. The gathered state is dropped when the parameters are next updated. Without this call
        `get_classy_state` gathers, and every rank must call that.
        """
        self._consolidated = super().get_classy_state()

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the state of the whole other optimizer; every rank must call it, unless it is consolidated."""
        return super().get_classy_state() if self._consolidated is None else self._consolidated

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores the state of the whole other optimizer; see `ClassyOptimizer`."""
        self._consolidated = None
        super().set_classy_state(state)

    def step(self, *args: Any, closure: Callable[[], Any] | None = None, where: float | None = None) -> Any:
        """Evaluates the schedules of interval "step", then updates the parameters; see `ClassyOptimizer`."""
        self._consolidated = None
        return super().step(*args, closure=closure, where=where)
