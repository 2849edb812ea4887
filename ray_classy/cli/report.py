"""`ray-classy report`."""

from __future__ import annotations

import argparse
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, short
from ray_classy.cli.trained import trained_at, use_code
from ray_classy.printable import printable
from ray_classy.report.write import MOST_ROWS, write_report


def report(arguments: argparse.Namespace) -> Answer:
    """Writes the report of a run, of several runs, or of a sweep, and prints where it is.

    Raises:
        UsageError: no run is given, or a number is negative.
        RayClassyError: it cannot be done; the message says why.
    """
    if not arguments.words:
        raise UsageError("report takes a run, several runs, or a sweep; see ray-classy report --help")
    rows = MOST_ROWS if arguments.rows is None else arguments.rows
    if rows < 0:
        raise UsageError(f"--rows must be at least 0, not {rows}")
    use_code(arguments.code)
    written = write_report([str(word) for word in arguments.words], arguments.output, rows, trained_at)
    data: dict[str, Any] = {"html": written.html, "markdown": written.markdown, "notes": written.notes}
    lines = [f"report:    {short(written.html)}", f"markdown:  {short(written.markdown)}"]
    lines += [f"note: {note}" for note in written.notes]
    return Answer("\n".join(map(printable, lines)), data)
