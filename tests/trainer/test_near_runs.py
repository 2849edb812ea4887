import os

import pytest
from pyarrow import fs

from ray_classy.storage import Storage
from ray_classy.trainer.near_runs import near_runs, not_a_run, runs_in


@pytest.fixture
def runs(tmp_path):
    """Six runs, of which `b` is the newest, and a folder that is none."""
    for age, name in enumerate(("b", "digits-2", "digits-1", "c", "a", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
        os.utime(tmp_path / name / "run.json", (10**9 - age,) * 2)
    (tmp_path / "digit").mkdir()
    (tmp_path / "digit" / "log.txt").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("digit-2", "there is nothing of that name; did you mean 'digits-2' or 'digits-1'?"),
        ("digit", "it has no run.json; did you mean 'digits-2' or 'digits-1'?"),
        ("zzz/", "there is nothing of that name; the runs beside it are ..., a, c, digits-1, digits-2, b"),
        (".", "it has no run.json; the runs in it are ..., a, c, digits-1, digits-2, b"),
        ("digit/log.txt", "it is a file"),
        ("b/run.json", "it is a file; it is in the run '{}/b'"),
        ("b/epoch_0001-step_000001", "there is nothing of that name; it is in the run '{}/b'"),
    ],
)
def test_the_runs_that_may_be_meant_are_named(runs, path, told):
    assert str(not_a_run(f"{runs}/{path}")).endswith(f"is not a run folder: {told.format(runs)}")


def test_a_store_is_asked_for_names_only(runs):
    store = fs.SubTreeFileSystem(str(runs), fs.LocalFileSystem())
    assert runs_in(Storage("", store)) == ["a", "b", "c", "digit", "digits-1", "digits-2", "x"]
    assert near_runs(f"file://{runs}/digits") == "; did you mean 'digits-2' or 'digits-1'?"
