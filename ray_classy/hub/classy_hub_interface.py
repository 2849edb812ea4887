"""A model with the data and the calls that try it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models.classy_model import ClassyModel

if TYPE_CHECKING:
    from ray_classy.dataset import ClassyDataset
    from ray_classy.tasks import ClassyTask


class ClassyHubInterface:
    """Predicts with a model, or extracts its features, on images of a folder or in a list.

    Args:
        task: the model is its `base_model`, which is prepared if it is not; its transforms are those of its datasets.
        model: instead of a task.

    Attributes:
        task: the task, or None.
        model: the model.

    Raises:
        ComponentError: not exactly one of task and model is given, or the task has no model.
    """

    def __init__(self, task: ClassyTask | None = None, model: ClassyModel | None = None) -> None:
        if (task is None) == (model is None):
            given = "both are" if task is not None else "neither is"
            raise ComponentError(f"ClassyHubInterface takes either a task or a model; {given} given")
        self.task = task
        own: Any = model if task is None else task.base_model
        if own is None:
            raise ComponentError("the task has no model; call its set_model")
        self.model: ClassyModel = own

    @classmethod
    def from_task(cls, task: ClassyTask) -> Self:
        """Returns an interface to the model of a task."""
        return cls(task=task)

    @classmethod
    def from_model(cls, model: nn.Module) -> Self:
        """Returns an interface to a model; a module that is not a `ClassyModel` becomes the trunk of one."""
        return cls(model=model if isinstance(model, ClassyModel) else ClassyModel.from_model(model))

    def create_image_dataset(
        self,
        batchsize_per_replica: int = 32,
        shuffle: bool = True,
        transform: Callable[[Any], Any] | None = None,
        num_samples: int | None = None,
        image_folder: str | None = None,
        image_files: list[str] | None = None,
        phase_type: str = "train",
    ) -> ClassyDataset:
        """Returns a dataset of images.

        Args:
            batchsize_per_replica: rows of a batch.
            shuffle: whether each iteration has an order of its own.
            transform: of a sample; None takes that of the task's dataset of the phase, or else ImageNet's: with
                augmentation for "train", without for "test".
            num_samples: only so many rows.
            image_folder: a folder of one folder per class, or of images.
            image_files: paths or URLs; exactly one of this and `image_folder`.
            phase_type: "train" or "test".

        Raises:
            ComponentError: an argument has an invalid value.
            DataError: there are no images.
        """
        from ray_classy.dataset.image_path_dataset import ImagePathDataset
        from ray_classy.dataset.transforms import (
            ApplyTransformToKey,
            ImagenetAugmentTransform,
            ImagenetNoAugmentTransform,
        )

        if phase_type not in ("train", "test"):
            raise ComponentError(f"phase_type is {phase_type!r}; expected 'train' or 'test'")
        if transform is None:
            datasets = {} if self.task is None else self.task.datasets
            transform = getattr(datasets.get(phase_type), "transform", None)
        if transform is None:
            default = ImagenetAugmentTransform() if phase_type == "train" else ImagenetNoAugmentTransform()
            transform = ApplyTransformToKey(default, key="input")
        files = {"image_folder": image_folder, "image_files": image_files}
        return ImagePathDataset(batchsize_per_replica, shuffle, transform, num_samples, **files)

    @staticmethod
    def get_data_iterator(dataset: ClassyDataset) -> Iterator[Any]:
        """Returns an iterator over the batches of a dataset."""
        return iter(dataset.iterator())

    def train(self) -> None:
        """Puts the model in training mode, and switches gradients on."""
        torch.set_grad_enabled(True)
        self.model.train()

    def eval(self) -> None:
        """Puts the model in evaluation mode, and switches gradients off, for all of the process."""
        torch.set_grad_enabled(False)
        self.model.eval()

    def predict(self, sample: Any) -> Any:
        """Returns the model's output for a batch, or for the `input` of one that is a dict."""
        return self.model(_input_of(sample))

    def extract_features(self, sample: Any) -> Any:
        """Returns the trunk's output for a batch as `predict`, without its dimensions of length 1."""
        features = self.model.extract_features(_input_of(sample))
        return features.squeeze() if isinstance(features, torch.Tensor) else features


def _input_of(sample: Any) -> Any:
    return sample["input"] if isinstance(sample, dict) and "input" in sample else sample
