"""The images that a model is applied to, decoded and transformed as in its test phases."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from ray_classy.dataset import DATASET_REGISTRY
from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_options import DEFAULT_OPTIONS, ImageOptions
from ray_classy.dataset.loader import PhaseLoader
from ray_classy.dataset.pixels import converted
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.transforms import ApplyTransformToKey, build_transforms
from ray_classy.errors import CheckpointError, DataError
from ray_classy.inference.image_rows import ImageRows, ImageSource
from ray_classy.registry import config_keys, signature_keys
from ray_classy.tasks.data_sections import with_test_section


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a model.

    Attributes:
        transform: of samples `{"input": PIL image or uint8 tensor}`.
        mode: of the images: "RGB" or "L" (grey).
        options: how they are decoded.
        seed: of the run, for transforms that draw random numbers.
        dataset: the config of the run's own data, whose keys also read other files of its kind.
        unknown: why it is not known how an image becomes an input; empty if it is. `transform` changes nothing then.
    """

    transform: Callable[[Any], Any]
    mode: str = "RGB"
    options: ImageOptions = DEFAULT_OPTIONS
    seed: int = 0
    dataset: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Returns the preprocessing of the test phases of a run, or of its train phases if it has no others.

        Args:
            config: of the run's task.

        Raises:
            CheckpointError: its dataset is not registered.
        """
        sections = with_test_section(config).get("dataset") or {}
        section = sections.get("test") or sections.get("train") or {}
        name = section.get("name")
        known = DATASET_REGISTRY.get(name) if isinstance(name, str) else None
        transforms = section.get("transforms")
        if known is None:
            raise CheckpointError(f"the model was trained on the dataset {name!r}, which is not registered: import it")
        mode = section.get("image_mode") or _default_mode(known)
        if not issubclass(known, ImageDataset) and transforms is None:
            unknown = (
                f"the model was trained on the dataset {name!r} without transforms, so how an image becomes its input "
                f"is not known: give the dataset `transforms` in the config and train again, or in Python give "
                f"Classifier a Preprocessing"
            )
            return cls(_nothing, mode, seed=config.get("seed") or 0, dataset=section, unknown=unknown)
        if transforms is None:
            default = known.__new__(known)  # a dataset's default depends on the mode of its images alone
            assert isinstance(default, ImageDataset)
            default.image_mode = mode
            transform: Any = ApplyTransformToKey(default.default_transform())
        else:
            transform = build_transforms(transforms)
        options = ImageOptions(**{key: section[key] for key in signature_keys(ImageOptions) if key in section})
        return cls(transform, mode, options, config.get("seed") or 0, section)

    def check(self) -> None:
        """Checks that it is known how an image becomes an input of the model.

        Raises:
            CheckpointError: it is not; the rows of the run's own dataset can be evaluated all the same.
        """
        if self.unknown:
            raise CheckpointError(self.unknown)

    def batches(
        self,
        images: Sequence[Any],
        batch_size: int,
        device: torch.device | None = None,
        errors: dict[int, str] | None = None,
    ) -> PhaseLoader:
        """Returns a loader of images in their order: batches `{"input": tensor, "row": tensor}`.

        Args:
            images: paths, URLs, encoded images as bytes, PIL images, arrays (H, W) or (H, W, C), or tensors (C, H, W);
                numbers are integers in [0, 255] or, in tensors, floating point in [0, 1].
            batch_size: images per batch.
            device: of the batches; None for the host.
            errors: gets a message, by row, for each image that cannot be decoded, which is passed over then; without
                it, the first one is an error.

        Raises:
            DataError: (when read) an image cannot be decoded; the message names it.
        """
        source = self.source(images)
        return self.loader(ImageRows([source]), range(len(source.rows)), batch_size, device, errors)

    def source(self, images: Sequence[Any]) -> ImageSource:
        """Returns images, as those of `batches`, as a source of rows; its names are paths, or numbers of images."""
        self.check()
        listed = list(images)
        names = [os.fspath(one) if isinstance(one, str | os.PathLike) else f"image {n}" for n, one in enumerate(listed)]
        return ImageSource(ItemRows(image=listed), _Decoder(self.mode, self.options, names), names.__getitem__, names)

    def loader(
        self,
        images: ImageRows,
        numbers: range,
        batch_size: int,
        device: torch.device | None = None,
        errors: dict[int, str] | None = None,
    ) -> PhaseLoader:
        """Returns a loader of some of the rows of images.

        Args:
            images: the rows.
            numbers: those that are read, in their order.
            batch_size, device, errors: as for `batches`.
        """
        loader = PhaseLoader(images.dataset(self.transform, errors), self.plan(numbers, batch_size))
        loader.device = device
        return loader

    def plan(self, numbers: range, batch_size: int) -> PhasePlan:
        """Returns the plan by which some rows are read, batch by batch."""
        return PhasePlan(len(numbers), batch_size, seed=self.seed, drawn=lambda: np.asarray(numbers, dtype=np.int64))


def _nothing(sample: Any) -> Any:
    """The transform of rows that come as the model takes them."""
    return sample


@dataclass(frozen=True)
class _Decoder:
    mode: str
    options: ImageOptions
    names: Sequence[str]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        name = self.names[row["row"]]
        return {"input": _decoded(row["image"], name, self.mode, bool(row.get("as_tensor")), self.options)}


def _decoded(image: Any, name: str, mode: str, as_tensor: bool, options: ImageOptions) -> Any:
    if isinstance(image, Image.Image):
        try:
            return _as_wanted(converted(ImageOps.exif_transpose(image), mode, options), as_tensor)
        except (OSError, ValueError, DataError) as error:
            raise DataError(f"{name}: {error}") from error
    source = None if isinstance(image, str | os.PathLike) else name
    data = _pixels(image, name) if isinstance(image, torch.Tensor) else image
    return decode_image(data, mode, source, as_tensor=as_tensor, options=options)


def _pixels(image: torch.Tensor, name: str) -> np.ndarray:
    """Returns the pixels of a tensor (channels, height, width) as an array (height, width, channels)."""
    if image.ndim != 3:
        raise DataError(f"{name}: a tensor of shape {tuple(image.shape)} is not an image: expected (C, H, W)")
    values = image.detach().cpu()
    if values.is_floating_point():
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise DataError(f"{name}: a floating-point tensor must have values in [0, 1]: give the image before it")
        values = (values * 255).round().to(torch.uint8)
    return values.permute(1, 2, 0).numpy()


def _as_wanted(image: Image.Image, as_tensor: bool) -> Any:
    if not as_tensor:
        return image
    from torchvision.transforms.v2.functional import to_image

    return to_image(image)


def _default_mode(known: type) -> str:
    """The mode of a dataset's images where the config does not say it."""
    key = (config_keys(known) or {}).get("image_mode")
    default = getattr(key, "default", None)
    return default if isinstance(default, str) else "RGB"
