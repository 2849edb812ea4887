"""The schedulers other than composites, under the name of Classy Vision's module."""

from ray_classy.optim.param_scheduler.curves import (
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    PolynomialDecayParamScheduler,
)
from ray_classy.optim.param_scheduler.steps import (
    MultiStepParamScheduler,
    StepParamScheduler,
    StepWithFixedGammaParamScheduler,
)

__all__ = [
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "LinearParamScheduler",
    "MultiStepParamScheduler",
    "PolynomialDecayParamScheduler",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
]
