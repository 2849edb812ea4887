"""A model whose trunk is any module."""

from __future__ import annotations

from typing import Any

from torch import nn

from ray_classy.models.classy_model import ClassyModel


class Adapter(ClassyModel):
    """Any module as a trunk; see `ClassyModel.from_model`."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...] | None, model_depth: int | None) -> None:
        super().__init__()
        self.model = model
        self.model_depth = model_depth
        self._input_shape = input_shape

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

    def extract_features(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own `extract_features`, or else its output."""
        return getattr(self.model, "extract_features", self.model)(*args, **kwargs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return super().input_shape if self._input_shape is None else tuple(self._input_shape)
