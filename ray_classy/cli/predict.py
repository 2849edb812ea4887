"""`ray-classy predict`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, command_line, resumed_by, short
from ray_classy.cli.trained import use_code
from ray_classy.config import Config, apply_overrides
from ray_classy.dataset.target_columns import ONLY
from ray_classy.display import print_line
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.image_rows import ImageRows
from ray_classy.inference.inputs import inputs_in, rows_of
from ray_classy.inference.load_model import load_model
from ray_classy.inference.pace import seldom
from ray_classy.inference.predict import bad_images_counted_only, predict_files
from ray_classy.inference.prediction_parts import Predicted
from ray_classy.inference.prediction_rows import Asked, Columns, predicted_rows
from ray_classy.printable import printable
from ray_classy.urls import shown

_MOST_CLASSES = 10


def predict(arguments: argparse.Namespace) -> Answer:
    """Predicts the classes of images with the model of a run, and prints them or writes them to a file.

    Raises:
        UsageError: a word is missing.
        RayClassyError: it cannot be done; the message says why.
        KeyboardInterrupt: the user stopped it; the message is the command that continues it.
    """
    options = [word for word in arguments.words if _OPTION.match(word) and not os.path.exists(word)]
    source, *words = [word for word in arguments.words if word not in options] or [""]
    _check(arguments, words)
    inputs, remarks = inputs_in(words)
    workers = arguments.num_workers or 0
    use_code(arguments.code)
    model = load_model(source, "cpu" if workers else None)
    given = dict(apply_overrides(Config({}), options)) if options else {}
    images = rows_of(inputs, model.preprocessing, given, arguments.id_column)
    if arguments.output is None:
        return _printed(model, images, arguments)
    for remark in remarks:
        print_line(remark)
    ray = {"address": arguments.address, "use_gpu": arguments.use_gpu}
    try:
        done = predict_files(
            model,
            images,
            arguments.output,
            arguments.topk,
            arguments.batch_size,
            seldom(print_line),
            arguments.threshold,
            workers if len(images) > 1 else 0,  # for one image, Ray would take longer to start
            {key: value for key, value in ray.items() if value is not None},
        )
    except KeyboardInterrupt as error:
        raise resumed_by(error, command_line("predict", *arguments.words, *_flags(arguments))) from None
    data = {"output": arguments.output, "images": done.images, "bad": done.bad, "predictions": done.counts}
    if list(done.counts) == [ONLY]:
        data["predictions"] = done.counts[ONLY]
    return Answer("\n".join(_summary(done, arguments.output)), data)


_OPTION = re.compile(r"[a-z_]+=")


def _check(arguments: argparse.Namespace, words: list[str]) -> None:
    if not words:
        raise UsageError(
            "predict takes a run or checkpoint, and files or folders of images; see ray-classy predict --help"
        )
    for name, least in (("topk", 1), ("batch_size", 1), ("num_workers", 0)):
        if (getattr(arguments, name) or least) < least or getattr(arguments, name) == 0 < least:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} must be at least {least}, not {getattr(arguments, name)}")
    if not 0 <= arguments.threshold < 1:
        raise UsageError(f"--threshold must be at least 0 and less than 1, not {arguments.threshold}")


def _flags(arguments: argparse.Namespace) -> Iterator[str]:
    """The flags by which the same command continues."""
    for name, default in (
        ("output", None),
        ("topk", None),
        ("threshold", 0.5),
        ("id_column", None),
        ("code", None),
        ("batch_size", 32),
        ("num_workers", None),
        ("address", None),
    ):
        value = getattr(arguments, name)
        if value != default:
            yield from (f"--{name.replace('_', '-')}", str(value))
    if arguments.use_gpu:
        yield "--use-gpu"


def _printed(model: Classifier, images: ImageRows, arguments: argparse.Namespace) -> Answer:
    if arguments.num_workers and len(images) > 1:
        raise UsageError(f"--num-workers writes {len(images):,} predictions to a file: give --output FILE")
    asked = Asked(arguments.topk, arguments.threshold, arguments.batch_size)
    with bad_images_counted_only():
        rows = predicted_rows(model, images, range(len(images)), asked)
    columns = Columns.of(model, images)
    width = max(len(short(shown(row["path"]))) for row in rows)
    return Answer("\n".join(printable(_line(row, columns, width)) for row in rows), {"predictions": rows})


def _line(row: dict[str, Any], columns: Columns, width: int) -> str:
    name = short(shown(row["path"])).ljust(width)
    if row["error"] is not None:
        return f"{name}  not predicted: {row['error']}"
    return "  ".join([name, *(_said(row, columns, target) for target in columns.targets)])


def _said(row: dict[str, Any], columns: Columns, target: str) -> str:
    """What is predicted for a target: its labels where there may be several, or else the best classes."""
    listed = row[columns.name(target, "topk")]
    if columns.targets[target] and (listed := row[columns.name(target, "labels")] or []) == []:
        best = row[columns.name(target, "topk")][0]
        said = f"no label (best: {best['label']} {best['score']:.1%})"
    else:
        said = "  ".join(f"{one['label']} {one['score']:.1%}" for one in listed)
    return said if target == ONLY else f"{target}: {said}"


def _summary(done: Predicted, output: str) -> Iterator[str]:
    for target, counts in done.counts.items():
        if target != ONLY:
            yield f"{printable(target)}:"
        most = counts.most_common(_MOST_CLASSES)
        width = max((len(printable(label)) for label, _ in most), default=0)
        yield from (f"{printable(label):<{width}}  {count:>7,}  {count / done.images:.1%}" for label, count in most)
        if len(counts) > len(most):
            yield f"... {len(counts) - len(most):,} more classes"
    if done.bad:
        what = "1 image" if done.bad == 1 else f"{done.bad:,} images"
        yield f"{what} cannot be decoded: see the column `error`"
    yield f"{done.images:,} predictions are in {short(shown(output))}"
