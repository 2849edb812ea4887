"""`ray-classy export`."""

from __future__ import annotations

import argparse
import os

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, short
from ray_classy.cli.paths import path_in
from ray_classy.cli.trained import trained_at
from ray_classy.disk_errors import size_text
from ray_classy.errors import RunFolderError
from ray_classy.inference.export import FORMATS, export_model
from ray_classy.storage import Storage
from ray_classy.urls import expanded, shown


def export(arguments: argparse.Namespace) -> Answer:
    """Writes the model of a run to a file for other programs, and says how far its outputs differ.

    Raises:
        UsageError: the command line has a mistake.
        RayClassyError: it cannot be done; the message says why.
    """
    if arguments.format not in FORMATS:
        raise UsageError(f"--format must be {' or '.join(FORMATS)}, not {arguments.format!r}")
    path = path_in(arguments, "a run or checkpoint")
    trained = trained_at(path)
    name = os.path.basename(path.rstrip("/")) or "model"
    output = expanded(arguments.output or f"{name}.{arguments.format}")
    if not output.endswith(f".{arguments.format}"):
        raise UsageError(f"--output must end in .{arguments.format}, not {output!r}")
    folder, _, file = output.rpartition("/")
    storage = Storage(folder or ".")
    if storage.exists(file):
        raise RunFolderError(f"{shown(output)!r} exists: remove it, or give another --output")
    made = export_model(trained, arguments.format)
    storage.make()
    storage.write(file, made.content)
    what = "random inputs" if made.lacking else "rows of the test data"
    lines = [
        f"checkpoint  {short(shown(trained.path))}",
        f"file        {short(shown(output))}, {size_text(len(made.content))}",
        f"input       float32 (rows, {', '.join(map(str, made.input_shape))})",
        f"difference  {made.difference:.3g} at most, on {what}",
    ]
    if made.lacking:
        lines.append(f"            the test data was not used: {made.lacking}")
    data = {
        "checkpoint": trained.path,
        "file": output,
        "input_shape": list(made.input_shape),
        "difference": made.difference,
        "rows": made.rows,
        "real_rows": not made.lacking,
    }
    return Answer("\n".join(lines), data)
