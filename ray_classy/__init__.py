"""Trains and evaluates image classifiers from one config file, in one process or on a Ray cluster."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.inference.load_model import load_model

__version__ = "0.1.0"
__all__ = ["load_model"]

__getattr__ = lazy_exports(__name__)
