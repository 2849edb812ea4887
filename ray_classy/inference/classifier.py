"""Predicts the classes of images with a trained model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.inference.outputs import THRESHOLD, Output, Prediction, by_target
from ray_classy.inference.preprocessing import Preprocessing
from ray_classy.memory import out_of_memory
from ray_classy.tasks.averaged_views import AveragedViews
from ray_classy.tasks.precision import Precision, autocast

__all__ = ["Classifier", "Prediction"]


class Classifier:
    """A model with everything that its predictions need.

    Args:
        model: returns scores of shape (images, classes) before softmax; with `targets`, a dict of them.
        preprocessing: makes its inputs.
        classes: names in the order of the model's outputs; None numbers them.
        precision: in which the model computes; None for float32.
        device: None takes the first GPU, or else the CPU.
        views: of each image, whose outputs are averaged.
        activation: makes probabilities of outputs: "softmax", or "sigmoid" for each class by itself.
        targets: classes and activation of each output of a model with several heads, in place of the two above.

    Attributes:
        model, preprocessing, classes, device, views, activation: the arguments.
        outputs: classes and activation of each output, by target; the only one has the name "".
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
        targets: Mapping[str, Output] | None = None,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self.preprocessing = preprocessing
        self.classes = None if classes is None else list(classes)
        self.views = views or AveragedViews()
        self.activation = activation
        self.outputs = dict(targets) if targets else {ONLY: Output(self.classes, activation)}
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
            A `Prediction` for one image, and a list for several; with several targets, dicts of them by target.

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
    ) -> Iterator[tuple[torch.Tensor, Any]]:
        """Yields the numbers of images, and what `probabilities` returns for them, batch by batch.

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

    def probabilities(self, inputs: torch.Tensor) -> Any:
        """Returns the probabilities of a batch of preprocessed images, shape (images, classes).

        With several targets, it returns a dict of them by target.

        Raises:
            CheckpointError: the model does not take such inputs, or has outputs of another form.
            ResourceError: memory ran out.
        """
        found = self.probabilities_by_target(inputs)
        return found.get(ONLY, found)

    def probabilities_by_target(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the probabilities for each of the `outputs`; arguments and errors as those of `probabilities`."""
        try:
            with torch.inference_mode(), autocast(self._precision, self.device):
                values = self.views.output(lambda sample: self.model(sample["input"]), {"input": inputs})
        except (RuntimeError, MemoryError) as error:
            if lacking := out_of_memory(error, f"the model, with {len(inputs)} images at once,", "lower --batch-size"):
                raise lacking from error
            shape = tuple(inputs.shape)
            raise CheckpointError(
                f"the model fails on inputs of shape {shape}: {str(error).splitlines()[0]}"
            ) from error
        return {
            target: self.outputs[target].probabilities(one) for target, one in by_target(values, self.outputs).items()
        }

    def predictions(self, scores: Any, topk: int = 5, threshold: float = THRESHOLD) -> list[Any]:
        """Returns what `predict` does, of what `probabilities` returns.

        Args:
            scores: the probabilities.
            topk: as for `predict`.
            threshold: the probability above which a class is among `Prediction.labels`.
        """
        if ONLY in self.outputs:
            return self.outputs[ONLY].predictions(scores, topk, threshold)
        columns = [self.outputs[target].predictions(one, topk, threshold) for target, one in scores.items()]
        return [dict(zip(scores, row, strict=True)) for row in zip(*columns, strict=True)]


def _is_one(images: Any) -> bool:
    return isinstance(images, str | bytes | os.PathLike | Image.Image | np.ndarray | torch.Tensor)
