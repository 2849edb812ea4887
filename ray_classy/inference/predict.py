"""Predicts many image files into one file."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ray_classy.inference.classifier import Classifier
from ray_classy.inference.prediction_parts import PredictionParts
from ray_classy.inference.prediction_rows import predicted_rows


def predict_files(
    model: Classifier,
    paths: Sequence[str],
    output: str,
    topk: int = 5,
    batch_size: int = 32,
    told: Callable[[str], None] = lambda line: None,
) -> Counter[str]:
    """Writes the predictions of image files to a file, a part of them after the other.

    A call that is interrupted is continued by the same call: parts that are written are not predicted again.

    Args:
        model: from `load_model`.
        paths: of the images; the rows of the file have their order.
        output: path or URL of the file, which ends in .parquet, .csv or .jsonl. Its columns are `path`, `prediction` (a
            class), `score` (its probability), `topk` (labels and scores) and `error` (where there is no prediction).
        topk, batch_size: as for `Classifier.predict`.
        told: gets a line on the progress from time to time.

    Returns:
        How many images have each prediction; "" for those that cannot be decoded.

    Raises:
        RunFolderError: the file exists, or a part of other predictions is in its place.
        ComponentError: the file's name ends otherwise.
    """
    parts = PredictionParts(output, paths, {"model": model.path, "topk": topk})
    missing = parts.missing()
    if len(missing) < len(parts):
        told(f"{len(parts) - len(missing)} of {len(parts)} parts are there already")
    parts.start()
    began, done, left = time.monotonic(), 0, sum(len(parts.images_of(number)) for number in missing)
    with bad_images_counted_only():
        for number in missing:
            rows = predicted_rows(model, parts.images_of(number), topk, batch_size)
            parts.write(number, rows)
            done += len(rows)
            seconds = time.monotonic() - began
            told(
                f"{done:,} of {left:,} images, {done / seconds:,.0f} images/s, {_rest(seconds * (left - done) / done)}"
            )
    return parts.finish()


def _rest(seconds: float) -> str:
    return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"


@contextlib.contextmanager
def bad_images_counted_only() -> Iterator[None]:
    """Keeps the loader from logging each image that cannot be decoded: it is in the file of predictions."""
    logger = logging.getLogger("ray_classy.dataset.loader")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
