"""Optimizers: how gradients change the parameters, with options that may follow schedules."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.optim.adam import Adam
    from ray_classy.optim.adamw import AdamW
    from ray_classy.optim.adamw_mt import AdamWMT
    from ray_classy.optim.by_pattern import ByPattern
    from ray_classy.optim.classy_optimizer import (
        OPTIMIZER_REGISTRY,
        ClassyOptimizer,
        build_optimizer,
        build_optimizer_schedulers,
        register_optimizer,
    )
    from ray_classy.optim.lamb import Lamb
    from ray_classy.optim.rmsprop import RMSProp
    from ray_classy.optim.rmsprop_tf import RMSPropTF
    from ray_classy.optim.sgd import SGD
    from ray_classy.optim.zero import ZeRO

__all__ = [
    "OPTIMIZER_REGISTRY",
    "SGD",
    "Adam",
    "AdamW",
    "AdamWMT",
    "ByPattern",
    "ClassyOptimizer",
    "Lamb",
    "RMSProp",
    "RMSPropTF",
    "ZeRO",
    "build_optimizer",
    "build_optimizer_schedulers",
    "register_optimizer",
]

__getattr__ = lazy_exports(__name__)
