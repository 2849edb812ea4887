"""The base class of datasets of encoded images: common constructor arguments, labels, default transforms."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from ray_classy.dataset.class_file import read_classes
from ray_classy.dataset.class_match import check_class_names, mapped
from ray_classy.dataset.classy_dataset import ClassyDataset
from ray_classy.dataset.image_options import DEFAULT_OPTIONS, ImageOptions
from ray_classy.dataset.row_dataset import RowDataset, row_dataset_of
from ray_classy.dataset.row_keys import text_keys
from ray_classy.dataset.row_values import numbers_in
from ray_classy.dataset.target_columns import ONLY, TargetColumn, TargetDecoder
from ray_classy.dataset.transforms import ApplyTransformToKey, ImagenetNoAugmentTransform, build_transform
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import Key, Keys, reads_signature, signature_keys
from ray_classy.urls import shown

_OPTIONS = tuple(field.name for field in dataclasses.fields(ImageOptions))


class ImageDataset(ClassyDataset):
    """Samples `{"input": image, "target": class}` whose targets are known before an image is decoded.

    A subclass implements `open_rows`. Its arguments follow the common ones in the constructor and in the config. One
    that sets `decodes` also has the keys of `ImageOptions`, and passes `image_options` to `decode_image`.

    Args:
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`; it must make tensors of the images.
        num_samples: see `ClassyDataset`.
        arguments: passed to `open_rows`.
        named: passed to `open_rows`.

    Attributes:
        image_mode: "RGB" or "L" (grey).
        image_options: how images are decoded.
        decodes: whether the class takes the keys of `ImageOptions`.
    """

    decodes: ClassVar[bool] = False
    image_mode: str = "RGB"
    image_options: ImageOptions = DEFAULT_OPTIONS
    _labels: np.ndarray | None = None
    _keys_of_rows: Callable[[], np.ndarray] | None = None
    _read_column: Callable[[str], Any] | None = None
    _targets: TargetDecoder | None = None
    _own: tuple[list[str] | None, np.ndarray | None, list[str] | None] | None = None  # classes and labels, then mapped

    def __init__(
        self,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None = None,
        num_samples: int | None = None,
        *arguments: Any,
        **named: Any,
    ) -> None:
        if self.decodes:
            self.image_options = ImageOptions(**{key: named.pop(key) for key in _OPTIONS if key in named})
        self._values: dict[str, np.ndarray] = {}
        rows = self._opened(*arguments, **named)
        if self.classes is not None:
            check_class_names(self.classes, "`classes`")
        super().__init__(rows, batchsize_per_replica, shuffle, transform, num_samples)

    def __init_subclass__(cls, **options: Any) -> None:
        """Gives the class the signature of its constructor and of `open_rows` together, for `help` and editors."""
        super().__init_subclass__(**options)
        if cls.__init__ is ImageDataset.__init__:
            cls.__signature__ = _signature(cls)  # type: ignore[attr-defined]

    def _opened(self, *arguments: Any, **named: Any) -> RowDataset:
        """Calls `open_rows`, with the names in a file where `classes` is the path of one."""
        bound = inspect.signature(self.open_rows).bind(*arguments, **named)
        file = bound.arguments.get("classes")
        if not isinstance(file, str):
            return self.open_rows(*arguments, **named)
        try:
            bound.arguments["classes"] = read_classes(file)
            return self.open_rows(*bound.args, **bound.kwargs)
        except DataError as error:
            if "classes" not in str(error) or shown(file) in str(error):
                raise
            raise DataError(f"{error} (`classes` are those in {shown(file)})") from error

    def open_rows(self, *arguments: Any, **named: Any) -> RowDataset:
        """Finds the rows and returns them with their decoder; sets `classes`, `image_mode` and the labels.

        An argument `classes: list[str] | None` may also be given as the path of a file of them, see `read_classes`.

        It may also set `_keys_of_rows`, which returns what `row_keys` does, and `_read_column`, which returns a column
        of the source by its name, as an Arrow array.
        """
        raise NotImplementedError(f"{type(self).__name__} must define open_rows, which returns a RowDataset")

    @classmethod
    def config_keys(cls) -> Keys:
        """The common keys, then those of `open_rows`, or of a constructor that a subclass writes itself."""
        if cls.__init__ is not ImageDataset.__init__:
            return super().config_keys()
        options = signature_keys(ImageOptions) if cls.decodes else {}
        own = signature_keys(cls.open_rows)
        if own.get("classes") == Key(list[str] | None, None):
            own["classes"] = Key(list[str] | str | None, None)  # or a file of them
        return {**ClassyDataset.config_keys(), **own, **options}

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyDataset:
        """Builds the dataset from a config whose keys are those of `config_keys`."""
        dataset = super().from_config(config)
        if config.get("transforms") is None:
            assert isinstance(dataset, ImageDataset)
            dataset.transform = ApplyTransformToKey(dataset.default_transform())
        return dataset

    def default_transform(self) -> Callable[[Any], Any]:
        """Returns the transform of the image where a config names no transforms."""
        return ImagenetNoAugmentTransform() if self.image_mode == "RGB" else build_transform({"name": "ToTensor"})

    def labels(self) -> np.ndarray | None:
        return self._labels

    def row_keys(self, column: str | None = None) -> np.ndarray:
        if column is not None:
            return text_keys(self.read_column(column), f"value in column {column!r}")
        return super().row_keys() if self._keys_of_rows is None else self._keys_of_rows()

    def row_values(self, column: str) -> np.ndarray:
        if column not in self._values:
            self._values[column] = numbers_in(self.read_column(column), column)
        return self._values[column]

    def read_column(self, name: str) -> Any:
        """Returns a column of the source, for the rows of this dataset, as an Arrow array."""
        if self._read_column is None:
            raise ComponentError(
                f"the rows of {type(self).__name__} have no columns, and none {name!r}: those of a manifest and of "
                f"Parquet files have"
            )
        values = self._read_column(name)
        base = row_dataset_of(self)
        return values if base is None or base.selection is None else values.take(base.selection)

    def keep_rows(self, numbers: np.ndarray) -> None:
        base = row_dataset_of(self)
        if base is None or not base.rows.random_access:
            raise ComponentError("rows that are read front to back cannot be split: leave `stream` out")
        base.select(numbers)
        self._labels = None if self._labels is None else self._labels[numbers]
        self._values = {name: values[numbers] for name, values in self._values.items()}
        self._keys_of_rows = None  # of all rows

    def with_targets(
        self, decode: Callable[[dict[str, Any]], dict[str, Any]], columns: Mapping[str, TargetColumn]
    ) -> TargetDecoder:
        """Returns a decoder that adds targets to samples by the numbers of rows; sets the classes of the only one.

        Args:
            decode: makes a sample without a target.
            columns: the targets of all rows, by name; that of `ONLY` is the sample's target itself.
        """
        self._targets = TargetDecoder(decode, columns)
        if ONLY in columns:
            self.classes = columns[ONLY].classes
        return self._targets

    def target_columns(self, own: bool = False) -> dict[str, TargetColumn]:
        if self._targets is None:
            return {}
        base = row_dataset_of(self)
        selection = getattr(base, "selection", None)
        columns = self._targets.own if own else self._targets.columns
        return {name: one if selection is None else one.selected(selection) for name, one in columns.items()}

    def own_classes(self) -> tuple[list[str] | None, np.ndarray | None]:
        if self._own is not None and self.classes is self._own[2]:
            return self._own[:2]
        return super().own_classes()

    def map_targets(self, by_target: dict[int, int], classes: list[str] | None, target: str = ONLY) -> bool:
        base = row_dataset_of(self)
        if base is None:
            return False
        if self._targets is not None:
            self._targets.map_targets(target, by_target, classes)
            base.drop_fetched()
            base.cache_decoded(True)
            by_target = {}
        if target != ONLY:
            self.__dict__.pop("_cache", None)
            return True
        names, labels = self.own_classes()
        self._own = (names, labels, classes)
        self.classes = classes
        self._labels = labels if labels is None else mapped(labels, by_target)
        base.map_targets({own: target for own, target in by_target.items() if own != target})
        self.__dict__.pop("_cache", None)
        return True


def _signature(cls: type[ImageDataset]) -> inspect.Signature:
    common = list(inspect.signature(ClassyDataset).parameters.values())[1:]
    own = list(inspect.signature(cls.open_rows).parameters.values())[1:]
    options = list(inspect.signature(ImageOptions).parameters.values()) if cls.decodes else []
    named = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in own + options
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    try:
        others = [one for one in own if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY)]
        return inspect.Signature(sorted([*common, *named, *others], key=lambda one: one.kind))
    except ValueError as error:
        raise TypeError(
            f"{cls.__name__}.open_rows takes what the constructor takes after its common arguments "
            f"({', '.join(one.name for one in common)}), by name: {error}; rename the argument or let it be passed by "
            f"name"
        ) from None
