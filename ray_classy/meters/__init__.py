"""Meters: metrics of a phase, besides the loss."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.meters.accuracy_meter import AccuracyMeter
    from ray_classy.meters.classification_metrics import (
        AUROCMeter,
        AveragePrecisionMeter,
        CalibrationErrorMeter,
        ConfusionMatrixMeter,
        F1Meter,
    )
    from ray_classy.meters.classy_meter import METER_REGISTRY, ClassyMeter, build_meter, build_meters, register_meter
    from ray_classy.meters.named_meter import NamedMeter
    from ray_classy.meters.precision_meter import PrecisionAtKMeter
    from ray_classy.meters.recall_meter import RecallAtKMeter
    from ray_classy.meters.summed_meter import SummedMeter, sync_meters
    from ray_classy.meters.torchmetrics_meter import TorchMetricsMeter
    from ray_classy.meters.video_accuracy_meter import VideoAccuracyMeter

__all__ = [
    "METER_REGISTRY",
    "AUROCMeter",
    "AccuracyMeter",
    "AveragePrecisionMeter",
    "CalibrationErrorMeter",
    "ClassyMeter",
    "ConfusionMatrixMeter",
    "F1Meter",
    "NamedMeter",
    "PrecisionAtKMeter",
    "RecallAtKMeter",
    "SummedMeter",
    "TorchMetricsMeter",
    "VideoAccuracyMeter",
    "build_meter",
    "build_meters",
    "register_meter",
    "sync_meters",
]

__getattr__ = lazy_exports(__name__)
