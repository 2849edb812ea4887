"""Losses: functions from a model's output and a target to a scalar that training minimizes."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.losses.asymmetric_loss import AsymmetricLoss
    from ray_classy.losses.barron_loss import BarronLoss
    from ray_classy.losses.binary_cross_entropy_loss import BinaryCrossEntropyLoss
    from ray_classy.losses.classy_loss import (
        LOSS_REGISTRY,
        ClassyLoss,
        build_loss,
        get_loss_state,
        has_learned_parameters,
        register_loss,
        set_loss_state,
    )
    from ray_classy.losses.focal_loss import FocalLoss
    from ray_classy.losses.label_smoothing_loss import LabelSmoothingCrossEntropyLoss
    from ray_classy.losses.multi_output_sum_loss import MultiOutputSumLoss
    from ray_classy.losses.multi_target_loss import MultiTargetLoss
    from ray_classy.losses.soft_target_cross_entropy_loss import SoftTargetCrossEntropyLoss
    from ray_classy.losses.sum_arbitrary_loss import SumArbitraryLoss

__all__ = [
    "LOSS_REGISTRY",
    "AsymmetricLoss",
    "BarronLoss",
    "BinaryCrossEntropyLoss",
    "ClassyLoss",
    "FocalLoss",
    "LabelSmoothingCrossEntropyLoss",
    "MultiOutputSumLoss",
    "MultiTargetLoss",
    "SoftTargetCrossEntropyLoss",
    "SumArbitraryLoss",
    "build_loss",
    "get_loss_state",
    "has_learned_parameters",
    "register_loss",
    "set_loss_state",
]

__getattr__ = lazy_exports(__name__)
