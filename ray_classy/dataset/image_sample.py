"""Decodes a few images of a dataset: their sizes, whether they are grey, and which are damaged."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.errors import DataError

SAMPLED = 64
"""Images that are decoded, evenly spaced among all rows."""
_THREADS = 8


@dataclass(frozen=True)
class ImageSample:
    """What a few images of a dataset are like.

    Attributes:
        rows: of the dataset.
        looked_at: how many of them were decoded, or cannot be.
        sizes: width and height in pixels of those that were decoded.
        grey: whether all of these are grey.
        errors: why the others cannot be decoded.
        cut_off: whether time ran out before all of `SAMPLED` were looked at.
    """

    rows: int
    looked_at: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grey: bool = False
    errors: list[str] = field(default_factory=list)
    cut_off: bool = False

    def short_side(self) -> int | None:
        """Returns the median of the images' shorter sides in pixels; None if no image was decoded."""
        return int(np.median([min(size) for size in self.sizes])) if self.sizes else None

    def size_line(self) -> str | None:
        """Describes the sizes of the images; None if none was decoded."""
        if not self.sizes:
            return None
        widths, heights = zip(*self.sizes, strict=True)
        size = f"{widths[0]} x {heights[0]} pixels"
        if len(set(self.sizes)) > 1:
            median = f"{int(np.median(widths))} x {int(np.median(heights))}"
            size = f"{_range(widths)} pixels wide, {_range(heights)} high, median {median}"
        some = "all" if self.looked_at == self.rows else f"{self.looked_at:,} of {self.rows:,} looked at"
        return f"images ({some}): {size}{', all grey' if self.grey else ''}"

    def problem_lines(self, phase_type: str, max_bad_rows: int) -> list[str]:
        """Describes images that cannot be decoded, and says if time ran out.

        Args:
            phase_type: "train" or "test".
            max_bad_rows: how many of them a phase skips.
        """
        lines = []
        if self.errors:
            more = ", ..." if len(self.errors) > 1 else ""
            then = f"up to {max_bad_rows:,} are skipped" if max_bad_rows else "one stops a run"
            lines.append(
                f"{len(self.errors)} of {self.looked_at:,} {phase_type} images that were looked at cannot be decoded "
                f"({self.errors[0]}{more}): {then} (dataset.{phase_type}.max_bad_rows); correct or remove them"
            )
        if self.cut_off:
            lines.append(f"{phase_type} images: {self.looked_at} of {self.rows:,} looked at, as time ran out")
        return lines


def sample_images(base: RowDataset, seconds: float, most: int = SAMPLED) -> ImageSample:
    """Decodes up to `most` images, evenly spaced among the rows, within a time.

    Args:
        base: rows that can be read in any order.
        seconds: after which no further image is waited for.
        most: how many.
    """
    rows = len(base)
    numbers = np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64)).tolist() if rows else []
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="sample")
    futures = [pool.submit(_looked_at, base, number) for number in numbers]
    try:
        done, _ = concurrent.futures.wait(futures, timeout=seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    answers = [future.result() for future in futures if future in done]
    seen = [answer for answer in answers if not isinstance(answer, str)]
    return ImageSample(
        rows,
        len(answers),
        [size for size, _ in seen],
        bool(seen) and all(grey for _, grey in seen),
        [answer for answer in answers if isinstance(answer, str)],
        len(answers) < len(numbers),
    )


def _looked_at(base: RowDataset, number: int) -> tuple[tuple[int, int], bool] | str:
    """Returns the size of an image and whether it is grey, or why it cannot be decoded."""
    try:
        image: Any = base.decode(base.take([number])[0])["input"]
    except DataError as error:
        return str(error)
    if not hasattr(image, "getbands"):
        image = image.numpy() if hasattr(image, "numpy") else np.asarray(image)
        height, width = image.shape[-2:]
        return (int(width), int(height)), False
    return image.size, image.mode == "L" or _is_grey(image)


def _is_grey(image: Any) -> bool:
    small = np.asarray(image.reduce(max(1, min(image.size) // 32)).convert("RGB"))
    return bool((small == small[..., :1]).all())


def _range(numbers: tuple[int, ...]) -> str:
    return f"{min(numbers):,} to {max(numbers):,}"
