"""What a trained model is used for: predictions, evaluations, exports and services."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.inference.classifier import Classifier, Prediction
    from ray_classy.inference.load_model import load_model
    from ray_classy.inference.ray_serve import serve_app

__all__ = ["Classifier", "Prediction", "load_model", "serve_app"]

__getattr__ = lazy_exports(__name__)
