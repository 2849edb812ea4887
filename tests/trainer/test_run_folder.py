import json
import os

import pytest
from pyarrow import fs

from ray_classy.errors import RunFolderError
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.tune.folder import SweepFolder

LINE = {"phase_idx": 0, "epoch": 1, "phase_type": "train", "metrics": {"loss": 0.5}}
CONTENT = {"input_args": None, "classy_state_dict": {"phase_idx": 1}}


def test_run_has_a_name_of_its_own(tmp_path):
    runs = [RunFolder.create(str(tmp_path), None) for _ in range(3)]
    assert len({run.name for run in runs}) == 3
    for run in runs:
        run.release()


def test_default_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create(None, "r")
    assert run.path == str(tmp_path / "runs" / "r")
    run.release()


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "a\0b"])
def test_impossible_name(tmp_path, name):
    with pytest.raises(RunFolderError, match="cannot be one"):
        RunFolder.create(str(tmp_path), name)


def test_name_that_is_taken(run):
    run.release()
    with pytest.raises(RunFolderError, match="--resume"):
        RunFolder.create(os.path.dirname(run.path), "r", run.storage.filesystem)


def test_a_run_that_is_in_use_is_said_to_be_so_at_once(run):
    for start in (lambda: RunFolder.create(os.path.dirname(run.path), "r", run.storage.filesystem), lambda: again(run)):
        with pytest.raises(RunFolderError, match=rf"in use by process {os.getpid()} on [^()]*another name$"):
            start()


def again(run):
    return RunFolder.resume(run.path, run.storage.filesystem)


def test_storage_path_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="is a file; give a folder"):
        RunFolder.create(str(tmp_path / "file"), "r")


def test_storage_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot create"):
        RunFolder.create(str(tmp_path / "file" / "runs"), "r")


def test_resume_what_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"is not a run folder: there is nothing of that name$"):
        RunFolder.resume(str(tmp_path / "other"))


def test_log_is_a_file(run):
    run.log("one")
    run.log("two")
    run.flush_log()
    assert run.storage.read("log.txt") == b"one\ntwo\n"


def test_run_that_was_taken_over_writes_no_more(run):
    lease = json.loads(run.storage.read("lease.json"))
    run.storage.write("lease.json", json.dumps({**lease, "token": "other"}).encode())
    for write in (lambda: run.metrics.add({}), lambda: run.checkpoints.write("epoch_0001-step_000001", CONTENT)):
        with pytest.raises(RunFolderError, match="taken over"):
            write()


def test_what_is_told_does_not_fail_with_the_log(tmp_path):
    run = RunFolder(str(tmp_path))
    run.log_now("a line")
    assert (tmp_path / "log.txt").read_text().endswith("  a line\n")
    (tmp_path / "log.txt").unlink()
    (tmp_path / "log.txt").mkdir()
    run.log_now("another")


@pytest.mark.parametrize("cls", [RunFolder, SweepFolder])
def test_the_name_of_an_unused_run_is_free_again(tmp_path, cls):
    for filesystem in (None, fs.LocalFileSystem()):
        run = cls.create(str(tmp_path), "unused", filesystem)
        run.describe(None)
        run.remove_if_unused()
        assert not (tmp_path / "unused").exists()


def test_an_unused_run_that_another_process_made_is_not_removed(run):
    run.release()
    again = RunFolder.resume(run.path, run.storage.filesystem)
    again.remove_if_unused()
    again.release()
    assert again.record.facts()["seed"] == 3


@pytest.mark.parametrize("cls", [RunFolder, SweepFolder])
@pytest.mark.parametrize("filesystem", [None, fs.LocalFileSystem()])
def test_a_folder_with_other_files_does_not_become_that_of_a_run(tmp_path, cls, filesystem):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text("precious")
    with pytest.raises(RunFolderError, match="has other files than those of a run: give another name"):
        cls.create(str(tmp_path), "r", filesystem)
    assert [path.read_text() for path in (tmp_path / "r").iterdir()] == ["precious"]


LEFTOVERS = ("config.yaml", "run.json.0123abcd.half", "lease.json.0123abcd", "lease.json.0123abcd.4567cdef.half")


@pytest.mark.parametrize("filesystem", [None, fs.LocalFileSystem()])
def test_the_name_of_a_start_that_was_killed_is_free_again(tmp_path, filesystem):
    RunFolder.create(str(tmp_path), "r", filesystem).release()
    for name in LEFTOVERS:
        (tmp_path / "r" / name).write_text("{}")
    os.utime(tmp_path / "r", (0, 0))
    run = RunFolder.create(str(tmp_path), "r", filesystem)
    run.describe("num_epochs: 1")
    run.release()


def test_a_run_that_is_being_started_is_named_so(tmp_path):
    run = RunFolder.create(str(tmp_path), "r")
    (tmp_path / "r" / "config.yaml").write_text("")
    with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on"):
        RunFolder.create(str(tmp_path), "r")
    run.release()


@pytest.mark.parametrize("cls", [RunFolder, SweepFolder])
def test_what_somebody_put_into_the_folder_of_an_unused_run_stays(tmp_path, cls):
    for number, filesystem in enumerate((None, fs.LocalFileSystem())):
        run = cls.create(str(tmp_path), f"r{number}", filesystem)
        run.describe(None)
        (tmp_path / run.name / "precious").write_text("data")
        run.remove_if_unused()
        run.release()
        assert (tmp_path / run.name / "precious").read_text() == "data"


# -- the path of a checkpoint -----------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run with two checkpoints, and beside it links to some of what is in it."""
    run = RunFolder.create(str(tmp_path / "runs"), "a")
    run.describe(None)
    for name in ("epoch_0001-step_000010", "epoch_0002-step_000020"):
        run.checkpoints.write(name, CONTENT, {"metrics": {"test": {"loss": 0.1}}})
    run.checkpoints.keep(Retention())
    run.release()
    (tmp_path / "newest").symlink_to("runs/a/last")
    (tmp_path / "folder").symlink_to("runs/a")
    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize(
    "path",
    [
        "runs/a",
        "folder/",
        "runs/a/last",
        "runs/a/last/",
        "./runs/../runs/a/epoch_0002-step_000020",
        "runs/a/epoch_0002-step_000020/checkpoint.torch",
        "newest",
        "newest/",
        "folder/last",
    ],
)
def test_a_run_is_found_by_its_newest_checkpoint(trained, path):
    assert os.path.samefile(RunFolder.existing(path).path, trained.path)
    assert os.path.samefile(RunFolder.existing(os.path.abspath(path)).path, trained.path)


def test_a_run_in_a_store_is_found_by_its_newest_checkpoint(trained):
    for path in (f"file://{trained.path}/last", f"file://{trained.path}/epoch_0002-step_000020/"):
        assert RunFolder.existing(path).path == trained.path
    assert RunFolder.existing(f"{trained.path}/last", fs.LocalFileSystem()).path == trained.path


@pytest.mark.parametrize("path", ["runs/a/epoch_0001-step_000010", "runs/a/best"])
def test_an_older_checkpoint_is_not_resumed_as_if_it_were_the_newest(trained, path):
    with pytest.raises(RunFolderError, match=r"is not the newest checkpoint of its run, epoch_0002.*--checkpoint"):
        RunFolder.existing(path)


def test_a_name_in_a_run_that_is_no_checkpoint_is_no_run(trained):
    for path in ("runs/a/epoch_0003-step_000030", "runs/a/lost", "runs"):
        with pytest.raises(RunFolderError, match=r"is not a run folder: "):
            RunFolder.existing(path)


def test_what_leads_nowhere_is_no_run(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("loop", "dangling"):
        with pytest.raises(RunFolderError, match=r"is not a run folder: there is nothing"):
            RunFolder.existing(str(tmp_path / name))


def test_links_that_lead_nowhere_are_no_checkpoints(trained):
    for name, target in (("epoch_0003-step_000030", "epoch_0003-step_000030"), ("epoch_0004-step_000040", "nothing")):
        os.symlink(target, os.path.join(trained.path, name))
    os.unlink(os.path.join(trained.path, "best"))
    os.symlink("best", os.path.join(trained.path, "best"))
    assert len(trained.checkpoints.names()) == 2 and trained.checkpoints.best() is None
