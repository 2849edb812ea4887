"""Stands for the preprocessing of the task's model in a list of transforms."""

from __future__ import annotations

from typing import Any

from ray_classy.dataset.transforms.classy_transform import ClassyTransform, register_transform
from ray_classy.errors import ComponentError


@register_transform("model_preprocessing")
class ModelPreprocessing(ClassyTransform):
    """The preprocessing of PIL images that the task's model was trained with; for a config.

    A task replaces it by ordinary transforms when it is built, which its config then has in its place. Size,
    interpolation, mean and standard deviation are those of the weights in torchvision or timm, or of ImageNet. In
    Python: `build_transforms(type(model).preprocessing(model_config).transforms(train=True))`.

    Args:
        train: crop, resize and flip at random; otherwise resize and crop the centre. None is true in the train dataset.
        size: height and width of the result in pixels, in place of the model's.

    Raises:
        ComponentError: it is built outside of a task's config.
    """

    def __init__(self, train: bool | None = None, size: int | None = None) -> None:
        raise ComponentError(
            "model_preprocessing depends on the model of a task: it must be an entry of a list of transforms in the "
            "config of a task with a model"
        )

    def __call__(self, image: Any) -> Any:
        raise NotImplementedError
