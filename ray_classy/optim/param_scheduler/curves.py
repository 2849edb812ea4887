"""Schedules that follow one formula over the whole of training."""

from __future__ import annotations

import math

from ray_classy.errors import TaskError
from ray_classy.optim.param_scheduler.classy_vision_param_scheduler import (
    ClassyParamScheduler,
    UpdateInterval,
    register_param_scheduler,
)


@register_param_scheduler("constant")
class ConstantParamScheduler(ClassyParamScheduler):
    """A constant value.

    Args:
        value: the value.
        update_interval: when it is evaluated.
    """

    FORMER_KEYS = ("num_epochs",)

    def __init__(self, value: float, update_interval: UpdateInterval = UpdateInterval.EPOCH) -> None:
        super().__init__(update_interval)
        self._value = value

    def __call__(self, where: float) -> float:
        """Returns the value.

        Raises:
            TaskError: `where` is 1 or more.
        """
        if where >= 1.0:
            raise TaskError(f"where must be in [0, 1), not {where}")
        return self._value


@register_param_scheduler("linear")
class LinearParamScheduler(ClassyParamScheduler):
    """A straight line from `start_value` to `end_value`.

    As the first part of a composite it is the gradual warm-up of Goyal et al. 2017 (arXiv:1706.02677, section 2.2).

    Args:
        start_value: the value at 0.
        end_value: the value at 1.
        update_interval: when it is evaluated.
    """

    FORMER_KEYS = ("num_epochs",)

    def __init__(
        self, start_value: float, end_value: float, update_interval: UpdateInterval = UpdateInterval.STEP
    ) -> None:
        super().__init__(update_interval)
        self._start_value = start_value
        self._end_value = end_value

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done."""
        return self._end_value * where + self._start_value * (1 - where)


@register_param_scheduler("cosine")
class CosineParamScheduler(ClassyParamScheduler):
    """Half a period of the cosine, from `start_value` to `end_value`.

    This is one cycle of Loshchilov & Hutter 2017 (arXiv:1608.03983, eq. 5).

    Args:
        start_value: the value at 0.
        end_value: the value at 1.
        update_interval: when it is evaluated.
    """

    FORMER_KEYS = ("num_epochs",)

    def __init__(
        self, start_value: float, end_value: float, update_interval: UpdateInterval = UpdateInterval.STEP
    ) -> None:
        super().__init__(update_interval)
        self._start_value = start_value
        self._end_value = end_value

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done."""
        return self._end_value + (self._start_value - self._end_value) * (1 + math.cos(math.pi * where)) / 2


@register_param_scheduler("polynomial")
class PolynomialDecayParamScheduler(ClassyParamScheduler):
    """Polynomial decay from `base_value` to 0: base_value * (1 - where)^power.

    Args:
        base_value: the value at 0.
        power: the exponent.
        update_interval: when it is evaluated.
    """

    FORMER_KEYS = ("num_epochs",)

    def __init__(self, base_value: float, power: float, update_interval: UpdateInterval = UpdateInterval.STEP) -> None:
        super().__init__(update_interval)
        self._base_value = base_value
        self._power = power

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done."""
        return self._base_value * (1 - where) ** self._power
