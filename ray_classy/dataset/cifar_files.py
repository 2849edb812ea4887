"""Reads the files of CIFAR-10 and CIFAR-100 in their Python layout without running code that a file names."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ray_classy.checkpoint.unpickle import Unpickler
from ray_classy.errors import CheckpointError, DataError
from ray_classy.urls import expanded, joined, read_bytes, shown

_MOST_BYTES = 2**28
"""Bytes of a file; the largest original one has 155 million."""
IMAGE_BYTES = 3 * 32 * 32


class CifarLayout(NamedTuple):
    """The files of one of the two datasets.

    Attributes:
        folder: below the root.
        files: the names of the files of images, by whether they are those of the train split.
        labels: the key of the labels in them.
        meta: the name of the file of class names.
        names: the key of the class names in it.
        classes: the number of classes.
        archive: where the original files can be downloaded.
    """

    folder: str
    files: dict[bool, list[str]]
    labels: str
    meta: str
    names: str
    classes: int
    archive: str


LAYOUTS = {
    "cifar10": CifarLayout(
        "cifar-10-batches-py",
        {True: [f"data_batch_{number}" for number in range(1, 6)], False: ["test_batch"]},
        "labels",
        "batches.meta",
        "label_names",
        10,
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
    "cifar100": CifarLayout(
        "cifar-100-python",
        {True: ["train"], False: ["test"]},
        "fine_labels",
        "meta",
        "fine_label_names",
        100,
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    ),
}


class CifarImages(NamedTuple):
    """The images of a split.

    Attributes:
        pixels: shape (N, 3072), uint8: the red, green and blue values of 32 rows of 32 pixels.
        labels: shape (N,), int64, in [0, number of classes).
        classes: the names of the classes.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: list[str]


def read_cifar(layout: CifarLayout, root: str, train: bool) -> CifarImages:
    """Reads the images of a split.

    Args:
        layout: which of the datasets.
        root: path or URL of the folder that holds `layout.folder`.
        train: whether to read the train split or the test split.

    Raises:
        DataError: a file is missing, damaged, or holds something else; the message names it.
    """
    folder = joined(expanded(root), layout.folder)
    try:
        meta = _content(joined(folder, layout.meta))
        parts = [_images(joined(folder, name), layout) for name in layout.files[train]]
    except DataError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise DataError(
            f"{error}: unpack {layout.archive} into {shown(root)!r}, so that it holds the folder {layout.folder} "
            f"(ray_classy downloads no data)"
        ) from error
    names = meta.get(layout.names)
    if not isinstance(names, list) or len(names) != layout.classes or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{shown(joined(folder, layout.meta))!r} has no list {layout.names!r} of {layout.classes} names"
        )
    return CifarImages(np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts]), names)


def _content(path: str) -> dict[str, Any]:
    data = read_bytes(path, most=_MOST_BYTES)
    try:
        content = _CifarPickle(data, most=2 * _MOST_BYTES).load()  # bytes, and the arrays of them
    except CheckpointError as error:
        raise DataError(f"{shown(path)!r} is not a file of CIFAR: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{shown(path)!r} is not a file of CIFAR: it holds no dict")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def _images(path: str, layout: CifarLayout) -> tuple[np.ndarray, np.ndarray]:
    content = _content(path)
    pixels, labels = content.get("data"), content.get(layout.labels)
    if isinstance(pixels, _Array):
        pixels = pixels.value
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != IMAGE_BYTES:
        raise DataError(f"{shown(path)!r} has no array 'data' of shape (images, {IMAGE_BYTES}) and type uint8")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise DataError(f"{shown(path)!r} has no list {layout.labels!r} of {len(pixels)} labels, one per image")
    if not all(type(label) is int and 0 <= label < layout.classes for label in labels):
        raise DataError(f"{shown(path)!r} has labels that are not integers in [0, {layout.classes})")
    return pixels, np.array(labels, dtype=np.int64)


class _Dtype:
    """A NumPy type that the pickle names; all but uint8 are refused."""


class _Array:
    """A NumPy array that the pickle makes; `value` is set by its state."""

    value: np.ndarray | None = None


class _CifarPickle(Unpickler):
    """Evaluates a pickle of Python 2 or 3 that holds plain values and arrays of bytes."""

    kinds = "plain values and arrays of uint8"

    def _old_text(self, size: int) -> None:
        self._push(self._take(size).decode("latin1"))  # text of Python 2, also the bytes of an array

    def _dtype(self, name: Any, *_: Any) -> _Dtype:
        if name not in ("u1", "|u1", "uint8"):
            raise CheckpointError(f"it holds an array of another type than uint8: {name!r}")
        return _Dtype()

    def _new_array(self, *_: Any) -> _Array:
        return _Array()

    def _from_buffer(self, buffer: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
        array = _Array()
        array.value = self._counted(_shaped(buffer, dtype, shape, order == "F"))
        return array

    def _counted(self, made: Any) -> Any:
        """Returns what was made, of which one part of the file may give much if it is named again and again."""
        self._bytes_left -= len(made) if isinstance(made, bytes | bytearray) else made.nbytes
        if self._bytes_left < 0:
            raise CheckpointError(f"its arrays have more than {2 * _MOST_BYTES:,} bytes together")
        return made

    def _counted_text(self, *arguments: Any) -> Any:
        return self._counted(Unpickler.functions["_codecs.encode"](self, *arguments))

    def _counted_bytes(self, *arguments: Any) -> Any:
        return self._counted(Unpickler.functions["builtins.bytearray"](self, *arguments))

    def _set_state(self, target: Any, state: Any) -> None:
        if isinstance(target, _Array):
            _, shape, dtype, fortran, content = state
            target.value = self._counted(_shaped(content, dtype, shape, bool(fortran)))
        elif not isinstance(target, _Dtype):
            super()._set_state(target, state)


def _shaped(content: Any, dtype: Any, shape: Any, fortran: bool) -> np.ndarray:
    content = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray) or type(shape) is not tuple:
        raise CheckpointError("it holds an array in an unknown way")
    if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) != len(content):
        raise CheckpointError(f"it holds an array of shape {shape} with {len(content):,} bytes")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


_CifarPickle.functions = {
    "_codecs.encode": _CifarPickle._counted_text,
    "builtins.bytearray": _CifarPickle._counted_bytes,
    "numpy.dtype": _CifarPickle._dtype,
    "numpy.ndarray": _CifarPickle._new_array,
    "numpy.core.multiarray._reconstruct": _CifarPickle._new_array,
    "numpy._core.multiarray._reconstruct": _CifarPickle._new_array,
    "numpy.core.numeric._frombuffer": _CifarPickle._from_buffer,
    "numpy._core.numeric._frombuffer": _CifarPickle._from_buffer,
}
_CifarPickle.operations = {
    **Unpickler.operations,
    ord("U"): lambda self: self._old_text(self._number("<B")),
    ord("T"): lambda self: self._old_text(self._number("<I")),
}
