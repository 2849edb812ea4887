"""Predicts many images into one file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray_classy.errors import ComponentError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.image_rows import ImageRows
from ray_classy.inference.outputs import THRESHOLD
from ray_classy.inference.pace import OnProgress, Pace, ignore
from ray_classy.inference.prediction_parts import Predicted, PredictionParts
from ray_classy.inference.prediction_rows import Asked, Columns, predicted_rows


def predict_files(
    model: Classifier,
    images: ImageRows | Sequence[str],
    output: str,
    topk: int = 5,
    batch_size: int = 32,
    on_progress: OnProgress = ignore,
    threshold: float = THRESHOLD,
    num_workers: int = 0,
    ray: Mapping[str, Any] | None = None,
) -> Predicted:
    """Writes the predictions of images to a file, a part of them after the other.

    A call that is interrupted is continued by the same call: parts that are written are not predicted again.

    Args:
        model: from `load_model`.
        images: from `inputs.rows_of`, or paths and URLs of image files; the rows of the file have their order.
        output: path or URL of the file, which ends in .parquet, .csv or .jsonl; see `Columns`.
        topk, batch_size: as for `Classifier.predict`.
        on_progress: gets a line on the progress after each batch and each part.
        threshold: the probability above which a class is one of an image's labels, of a model with several labels.
        num_workers: Ray workers that hold the model, while other CPUs decode; 0 predicts in this process.
        ray: the section `ray` of a config, which says which cluster.

    Raises:
        RunFolderError: the file exists, or a part of other predictions is in its place.
        ComponentError: the file's name ends otherwise, or an argument has an invalid value.
        ResourceError: the cluster has no room for the workers.
        RunError: the workers failed.
    """
    for name, value in (("topk", topk), ("batch_size", batch_size)):
        if type(value) is not int or value < 1:
            raise ComponentError(f"{name} must be an integer of at least 1, not {value!r}")
    if not isinstance(threshold, int | float) or not 0 <= threshold < 1:
        raise ComponentError(f"threshold must be a number of at least 0 and less than 1, not {threshold!r}")
    rows = images if isinstance(images, ImageRows) else ImageRows([model.preprocessing.source(images)])
    asked = Asked(topk, float(threshold), batch_size)
    facts = {"model": model.path, "topk": topk, "threshold": asked.threshold}
    parts = PredictionParts(output, rows, Columns.of(model, rows), facts)
    missing = parts.missing()
    if len(missing) < len(parts):
        on_progress(f"{len(parts) - len(missing)} of {len(parts)} parts are there already")
    numbers = {number: parts.images_of(number) for number in missing}
    pace = Pace(sum(map(len, numbers.values())), on_progress)
    with bad_images_counted_only(), contextlib.ExitStack() as stack:
        if num_workers and missing:
            from ray_classy.inference.ray_predict import predicted_on_ray

            on_progress(f"starting {num_workers} Ray workers")
            made = stack.enter_context(predicted_on_ray(model, rows, numbers, asked, num_workers, ray or {}, pace))
        else:
            made = ((number, predicted_rows(model, rows, some, asked, pace)) for number, some in numbers.items())
        parts.start()
        for number, found in made:
            parts.write(number, found)
            pace.reach(len(found), numbers[number].start)
    return parts.finish()


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
