"""Writes reports: `report.html` and, for pull requests, `report.md`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ray_classy.errors import ComponentError, RunFolderError
from ray_classy.inference.places import place_of
from ray_classy.inference.trained import Trained, read_trained
from ray_classy.report.compare_page import compare_page
from ray_classy.report.markdown import markdown
from ray_classy.report.page import MARK, Page, check_installed
from ray_classy.report.run_page import run_page
from ray_classy.report.run_source import read_run
from ray_classy.report.sweep_page import sweep_page
from ray_classy.storage import Storage
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.urls import joined, reading, shown

HTML_FILE, MARKDOWN_FILE = "report.html", "report.md"
MOST_ROWS = 5000
"""Test rows that are evaluated unless another number is given."""
_BYTES_OF_THE_HEAD = 4096


@dataclass(frozen=True)
class Written:
    """A report.

    Attributes:
        html, markdown: paths of its files.
        notes: what it lacks, and why.
    """

    html: str
    markdown: str
    notes: list[str]


def write_report(
    runs: str | Sequence[str],
    output: str | None = None,
    most_rows: int = MOST_ROWS,
    read: Callable[[str], Trained] = read_trained,
) -> Written:
    """Writes the report of a run, of several runs side by side, or of a sweep.

    Args:
        runs: the folder of a run or sweep, or folders of several runs; local or URLs.
        output: the file, which ends in .html; the Markdown is written beside it. None is `report.html` in the folder
            of the run or sweep and, of several runs, in the working directory.
        most_rows: test rows that are evaluated; of more, so many are drawn at random. 0 evaluates none.
        read: reads the checkpoint of a run.

    Raises:
        UnavailableError: a package is missing: pip install 'ray_classy[report]'.
        RunFolderError: there is no run, or `output` is a file that is not a report.
        ComponentError: an argument has an invalid value.
        RecordError: the record of a run is damaged.
    """
    paths = [runs] if isinstance(runs, str) else list(runs)
    if type(most_rows) is not int or most_rows < 0:
        raise ComponentError(f"most_rows must be an integer of at least 0, not {most_rows!r}")
    check_installed()
    storage, name = _place(paths, output)
    page = _page(paths, most_rows, read)
    html = page.html()
    storage.make()
    beside = f"{os.path.splitext(name)[0]}.md"
    storage.write(name, html.encode())
    storage.write(beside, markdown(page).encode())
    return Written(shown(storage.join(name)), shown(storage.join(beside)), page.notes)


def _page(paths: Sequence[str], most_rows: int, read: Callable[[str], Trained]) -> Page:
    if not paths:
        raise ComponentError("a report is of at least one run")
    with reading(paths[0]):
        folders = [RunFolder.existing(path) for path in paths]
        sweeps = [folder for folder in folders if folder.record.facts().get("kind") == "sweep"]
    if len(paths) == 1:
        return sweep_page(sweeps[0].storage) if sweeps else run_page(read_run(paths[0]), read, most_rows)
    if sweeps:
        raise RunFolderError(
            f"{shown(sweeps[0].path)!r} is a sweep: a report is of one sweep, or of several runs (of its trials, say)"
        )
    return compare_page([read_run(path) for path in paths], read, most_rows)


def _place(paths: Sequence[str], output: str | None) -> tuple[Storage, str]:
    """The folder and name of the page."""
    if output is None:
        if len(paths) == 1:
            with reading(paths[0]):
                return RunFolder.existing(paths[0]).storage, HTML_FILE
        output = joined(os.getcwd(), HTML_FILE)
    storage, name = place_of(output)
    if not name.lower().endswith(".html"):
        raise ComponentError(f"a report is written to a .html file, not {name!r}")
    if storage.exists(name) and MARK.encode() not in storage.read(name, most_bytes=None)[:_BYTES_OF_THE_HEAD]:
        raise RunFolderError(f"{shown(output)!r} exists and is not a report: remove it, or give another name")
    return storage, name
