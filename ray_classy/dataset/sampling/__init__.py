"""Which rows an epoch of a train phase has, where that is not each row once."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.dataset.sampling.balanced import BalancedSampling
    from ray_classy.dataset.sampling.classy_sampling import (
        SAMPLING_REGISTRY,
        ClassySampling,
        build_sampling,
        register_sampling,
    )
    from ray_classy.dataset.sampling.repeated import RepeatedSampling
    from ray_classy.dataset.sampling.weighted import WeightedSampling

__all__ = [
    "SAMPLING_REGISTRY",
    "BalancedSampling",
    "ClassySampling",
    "RepeatedSampling",
    "WeightedSampling",
    "build_sampling",
    "register_sampling",
]

__getattr__ = lazy_exports(__name__)
