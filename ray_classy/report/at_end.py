"""The report at the end of a run or sweep whose config has `report: true`."""

from __future__ import annotations

from ray_classy.display import print_line
from ray_classy.report.page import check_installed
from ray_classy.report.write import write_report

__all__ = ["check_installed", "write_at_end"]

_MOST_ROWS = 2000
"""Test rows that the process which started the run evaluates by itself, perhaps without a GPU."""


def write_at_end(path: str) -> None:
    """Writes the report of a run or sweep that has ended; what hinders it is printed: a run is worth more than it.

    Args:
        path: of its folder.
    """
    try:
        written = write_report(path, most_rows=_MOST_ROWS)
    except Exception as error:  # also a bug of the report must not fail the run
        print_line(f"no report is written: {type(error).__name__}: {error}")
        return
    print_line(f"report: {written.html}")
    for note in written.notes:
        print_line(f"report: {note}")
