"""Sweeps over task configs, on Ray Tune."""

from ray_classy.tune.result import SweepResult
from ray_classy.tune.space import Space
from ray_classy.tune.tuner import TaskTuner

__all__ = ["Space", "SweepResult", "TaskTuner"]
