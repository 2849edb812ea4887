"""Predicts the classes of images with a trained model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.inference.preprocessing import Preprocessing
from ray_classy.tasks.averaged_views import AveragedViews
from ray_classy.tasks.precision import Precision, autocast


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        label: the class with the highest score.
        score: its probability, in [0, 1].
        top: the classes with the highest scores, each with its own, from the highest on.
    """

    label: str
    score: float
    top: list[tuple[str, float]]


class Classifier:
    """A model with everything that its predictions need.

    Args:
        model: returns scores of shape (images, classes) before softmax.
        preprocessing: makes its inputs.
        classes: names in the order of the model's outputs; None numbers them.
        precision: in which the model computes; None for float32.
        device: None takes the first GPU, or else the CPU.
        views: of each image, whose outputs are averaged.
        activation: makes probabilities of outputs: "softmax", or "sigmoid" for each class by itself.

    Attributes:
        model, preprocessing, classes, device, views, activation: the arguments.
        path: of the checkpoint that it was loaded from.
        metrics: of the round that the checkpoint was written after, by phase type.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        classes: Sequence[str] | None = None,
        precision: Precision | None = None,
        device: str | torch.device | None = None,
        views: AveragedViews | None = None,
        activation: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self.preprocessing = preprocessing
        self.classes = None if classes is None else list(classes)
        self.views = views or AveragedViews()
        self.activation = activation
        self.path: str | None = None
        self.metrics: dict[str, Any] = {}
        self._precision = precision

    def predict(self, images: Any, topk: int = 5, batch_size: int = 32) -> Any:
        """Predicts the classes of images.

        Args:
            images: one image or a list: paths, URLs, encoded images as bytes, PIL images, arrays (H, W) or (H, W, C),
                or tensors (C, H, W); see `Preprocessing.batches`.
            topk: classes of each image, at least 1; no more than there are.
            batch_size: images that the model takes at once, at least 1.

        Returns:
            A `Prediction` for one image, and a list for several.

        Raises:
            ComponentError: an argument has an invalid value.
            DataError: an image cannot be decoded; the message names it.
        """
        for name, value in (("topk", topk), ("batch_size", batch_size)):
            if type(value) is not int or value < 1:
                raise ComponentError(f"{name} must be an integer of at least 1, not {value!r}")
        if _is_one(images):
            return self.predict([images], topk)[0]
        return [
            prediction
            for _, scores in self.scores(list(images), batch_size)
            for prediction in self.predictions(scores, topk)
        ]

    def scores(
        self, images: Sequence[Any], batch_size: int = 32, errors: dict[int, str] | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields the numbers of images, and their probabilities, shape (images, classes), batch by batch.

        Args:
            images: as for `predict`.
            batch_size: images of a batch.
            errors: see `Preprocessing.batches`.

        Raises:
            DataError: an image cannot be decoded, and `errors` is not given.
            CheckpointError: the model has outputs of another form.
        """
        for batch in self.preprocessing.batches(images, batch_size, self.device, errors) if len(images) else ():
            yield batch["row"], self.probabilities(batch["input"])

    def probabilities(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the probabilities of a batch of preprocessed images, shape (images, classes).

        Raises:
            CheckpointError: the model does not take such inputs, or has outputs of another form.
        """
        try:
            with torch.inference_mode(), autocast(self._precision, self.device):
                outputs = self.views.output(lambda sample: self.model(sample["input"]), {"input": inputs})
        except RuntimeError as error:
            shape = tuple(inputs.shape)
            raise CheckpointError(
                f"the model fails on inputs of shape {shape}: {str(error).splitlines()[0]}"
            ) from error
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            what = f"a {type(outputs).__name__}" if not isinstance(outputs, torch.Tensor) else f"{tuple(outputs.shape)}"
            raise CheckpointError(f"the model returns {what}; predictions need scores of shape (images, classes)")
        if self.classes is not None and outputs.shape[1] != len(self.classes):
            raise CheckpointError(
                f"the model has {outputs.shape[1]} outputs, and there are {len(self.classes)} classes"
            )
        return outputs.float().sigmoid() if self.activation == "sigmoid" else outputs.float().softmax(dim=1)

    def predictions(self, scores: torch.Tensor, topk: int = 5) -> list[Prediction]:
        """Returns the predictions that probabilities of shape (images, classes) stand for."""
        values, indices = scores.topk(min(topk, scores.shape[1]), dim=1)
        found = []
        for numbers, tops in zip(indices.tolist(), values.tolist(), strict=True):
            named = [(self.name_of(number), value) for number, value in zip(numbers, tops, strict=True)]
            found.append(Prediction(*named[0], named))
        return found

    def name_of(self, number: int) -> str:
        """Returns the name of a class."""
        return str(number) if self.classes is None else self.classes[number]


def _is_one(images: Any) -> bool:
    return isinstance(images, str | bytes | os.PathLike | Image.Image | np.ndarray | torch.Tensor)
