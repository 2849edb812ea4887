"""The notebook runs from its first cell to its last; `jupyter execute --inplace` writes its outputs for a commit."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from tests.test_docs import ROOT

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
MOST_OUTPUT = 6000
"""Characters of all outputs together: they are read beside the cells."""


def printed(notebook):
    """What each cell of code printed and returned."""
    outputs = [[str(one) for one in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    return ["\n".join(of_cell) for of_cell in outputs]


def check_outputs(notebook):
    texts = printed(notebook)
    local, ray = (next(text for text in texts if f"run {name} on" in text) for name in ("local", "workers"))
    assert all("test 2  " in text and "accuracy.top_1" in text for text in (local, ray))


@pytest.mark.full
def test_the_committed_notebook_is_valid_and_short():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert len("".join(printed(notebook))) < MOST_OUTPUT
    assert str(ROOT) not in NOTEBOOK.read_text()


@pytest.mark.ray
@pytest.mark.full
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    at = next(at for at, cell in enumerate(notebook.cells) if "@register_loss" in cell.source)
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(notebook.cells[at].source))  # as if it were run again
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    check_outputs(notebook)
