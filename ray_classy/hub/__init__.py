"""Trained models for use in notebooks and by `torch.hub`."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.hub.classy_hub_interface import ClassyHubInterface

__all__ = ["ClassyHubInterface"]

__getattr__ = lazy_exports(__name__)
