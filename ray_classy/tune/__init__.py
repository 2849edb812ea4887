"""Sweeps over task configs, on Ray Tune."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.tune.result import SweepResult
    from ray_classy.tune.space import Space
    from ray_classy.tune.tuner import TaskTuner

__all__ = ["Space", "SweepResult", "TaskTuner"]

__getattr__ = lazy_exports(__name__)
