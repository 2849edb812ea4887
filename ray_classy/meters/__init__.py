"""Meters: metrics of a phase, besides the loss."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.meters.accuracy_meter import AccuracyMeter
    from ray_classy.meters.classy_meter import METER_REGISTRY, ClassyMeter, build_meter, build_meters, register_meter

__all__ = ["METER_REGISTRY", "AccuracyMeter", "ClassyMeter", "build_meter", "build_meters", "register_meter"]

__getattr__ = lazy_exports(__name__)
