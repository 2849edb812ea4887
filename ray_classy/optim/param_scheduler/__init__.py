"""Schedulers: functions from the progress of training to the value of an optimizer's option."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.optim.param_scheduler.classy_vision_param_scheduler import (
        PARAM_SCHEDULER_REGISTRY,
        ClassyParamScheduler,
        ParamScheduler,
        UpdateInterval,
        build_param_scheduler,
        register_param_scheduler,
    )
    from ray_classy.optim.param_scheduler.composite_scheduler import CompositeParamScheduler, IntervalScaling
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
    from ray_classy.optim.param_scheduler.warmup import TrainingLength, WarmupParamScheduler

__all__ = [
    "PARAM_SCHEDULER_REGISTRY",
    "ClassyParamScheduler",
    "CompositeParamScheduler",
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "IntervalScaling",
    "LinearParamScheduler",
    "MultiStepParamScheduler",
    "ParamScheduler",
    "PolynomialDecayParamScheduler",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
    "TrainingLength",
    "UpdateInterval",
    "WarmupParamScheduler",
    "build_param_scheduler",
    "register_param_scheduler",
]

__getattr__ = lazy_exports(__name__)
