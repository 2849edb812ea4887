"""`ray-classy predict`."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, command_line, short
from ray_classy.display import print_line
from ray_classy.inference.inputs import images_in
from ray_classy.inference.load_model import load_model
from ray_classy.inference.predict import bad_images_counted_only, predict_files
from ray_classy.inference.prediction_rows import predicted_rows
from ray_classy.printable import printable
from ray_classy.trainer.interrupts import interrupted
from ray_classy.urls import shown

_SECONDS_BETWEEN_LINES = 10.0
_MOST_CLASSES = 10


def predict(arguments: argparse.Namespace) -> Answer:
    """Predicts the classes of image files with the model of a run, and prints them or writes them to a file.

    Raises:
        UsageError: a word is missing.
        RayClassyError: it cannot be done; the message says why.
        KeyboardInterrupt: the user stopped it; the message is the command that continues it.
    """
    if len(arguments.words) < 2:
        raise UsageError(
            "predict takes a run or checkpoint, and files or folders of images; see ray-classy predict --help"
        )
    for name in ("topk", "batch_size"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(arguments, name)}")
    source, *words = arguments.words
    paths, remarks = images_in(words)
    model = load_model(source)
    if arguments.output is None:
        return _printed(model, paths, arguments)
    for remark in remarks:
        print_line(remark)
    try:
        counts = predict_files(
            model, paths, arguments.output, arguments.topk, arguments.batch_size, _seldom(print_line)
        )
    except KeyboardInterrupt as error:
        flags = ["--output", arguments.output, "--topk", str(arguments.topk)]
        raise interrupted(error, command_line("predict", source, *words, *flags)) from None
    data = {"output": arguments.output, "images": len(paths), "bad": counts[""], "predictions": dict(counts)}
    return Answer(_summary(counts, len(paths), arguments.output), data)


def _printed(model: Any, paths: list[str], arguments: argparse.Namespace) -> Answer:
    with bad_images_counted_only():
        rows = predicted_rows(model, paths, arguments.topk, arguments.batch_size)
    width = max(len(short(shown(row["path"]))) for row in rows)
    return Answer("\n".join(printable(_line(row, width)) for row in rows), {"predictions": rows})


def _line(row: dict[str, Any], width: int) -> str:
    name = short(shown(row["path"])).ljust(width)
    if row["prediction"] is None:
        return f"{name}  not predicted: {row['error']}"
    return f"{name}  " + "  ".join(f"{one['label']} {one['score']:.1%}" for one in row["topk"])


def _summary(counts: Counter[str], images: int, output: str) -> str:
    bad = counts.pop("", 0)
    most = counts.most_common(_MOST_CLASSES)
    width = max((len(printable(label)) for label, _ in most), default=0)
    lines = [f"{printable(label):<{width}}  {count:>7,}  {count / images:.1%}" for label, count in most]
    if len(counts) > len(most):
        lines.append(f"... {len(counts) - len(most):,} more classes")
    if bad:
        what = "1 image" if bad == 1 else f"{bad:,} images"
        lines.append(f"{what} cannot be decoded: see the column `error`")
    return "\n".join([*lines, f"{images:,} predictions are in {short(shown(output))}"])


def _seldom(told: Callable[[str], None]) -> Callable[[str], None]:
    """Passes a line on, if the last one was not a moment ago."""
    last = -_SECONDS_BETWEEN_LINES

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            told(text)

    return line
