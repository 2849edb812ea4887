"""The metrics of torchmetrics that are used most, as meters of their own names."""

from __future__ import annotations

from ray_classy.meters.classy_meter import register_meter
from ray_classy.meters.torchmetrics_meter import TorchMetricsMeter


@register_meter("f1")
class F1Meter(TorchMetricsMeter):
    """The F1 score; see `TorchMetricsMeter`."""

    NAME, METRIC = "f1", "F1Score"


@register_meter("auroc")
class AUROCMeter(TorchMetricsMeter):
    """The area under the ROC curve, of each class against the others; see `TorchMetricsMeter`."""

    NAME, METRIC = "auroc", "AUROC"


@register_meter("average_precision")
class AveragePrecisionMeter(TorchMetricsMeter):
    """The average precision, which macro-averaged is mAP; see `TorchMetricsMeter`."""

    NAME, METRIC = "average_precision", "AveragePrecision"


@register_meter("confusion_matrix")
class ConfusionMatrixMeter(TorchMetricsMeter):
    """The confusion matrix; see `TorchMetricsMeter`."""

    NAME, METRIC = "confusion_matrix", "ConfusionMatrix"


@register_meter("calibration_error")
class CalibrationErrorMeter(TorchMetricsMeter):
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599); see `TorchMetricsMeter`."""

    NAME, METRIC = "calibration_error", "CalibrationError"
