"""What a run does when its folder cannot be written any more, or only slowly."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs
from torch import nn

from ray_classy import storage
from ray_classy.cli.main import main
from ray_classy.errors import RunFolderError, StorageError
from ray_classy.storage import Storage
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession
from tests.helpers import RecordingHook, make_task

CONFIG = """\
name: classification_task
num_epochs: 3
imports: [limited_disk]
dataset:
  train: {name: digits, split: train, batchsize_per_replica: 32, use_shuffle: true, num_samples: 64}
model: {name: mlp, input_dim: 64, output_dim: 10, hidden_dims: [1000]}
loss: {name: CrossEntropyLoss}
optimizer: {name: sgd, lr: 0.1}
hooks: [{name: limited_disk}]
"""
LIMITED_DISK = """\
import resource
from ray_classy.hooks import ClassyHook, register_hook

@register_hook("limited_disk")
class LimitedDisk(ClassyHook):
    on_start = on_step = on_phase_end = on_end = ClassyHook._noop

    def on_phase_start(self, task):
        if task.phase_idx == 1:  # the checkpoint before may still be being written: its folder is waited for
            import os, time
            while not os.path.exists("runs/r/epoch_0001-step_000002/manifest.json"):
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(storage, "_SECONDS_TO_NEXT_TRY", 0.02)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=20)


class Store(LocalFileSystem):
    """A store whose writes take a while, or fail.

    Args:
        seconds: for each write.
        failures: of the next writes of `file`.
        file: its name.
    """

    cachable = False

    def __init__(self, seconds=0.0, failures=0, file="checkpoint.torch"):
        super().__init__()
        self.seconds, self.failures, self.file = seconds, failures, file
        self.writes = []

    def open(self, path, mode="rb", **options):
        if "w" in mode:
            began = time.monotonic()
            time.sleep(self.seconds)
            if os.path.basename(path).startswith(self.file):  # also under a temporary name
                self.writes.append((began, time.monotonic()))
                if self.failures:
                    self.failures -= 1
                    raise OSError("the store is away")
        return super().open(path, mode, **options)


def on_store(store, tmp_path):
    """A new run in a store."""
    run = RunFolder.create(str(tmp_path / "runs"), "r", fs.PyFileSystem(fs.FSSpecHandler(store)))
    run.describe(None)
    return run


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)


def breaking(run, do):
    """A task of three rounds; `do` is done in the second one, when the checkpoint of the first is written."""

    def look(task):
        if task.phase_idx == 2 and not look.done:
            look.done = True
            wait_for(run / "epoch_0001-step_000006" / "manifest.json")
            do()

    look.done = False
    return make_task(epochs=3, hooks=[RecordingHook(look)])


def halves(folder):
    return [path for path in Path(folder).rglob("*") if path.name.endswith(".half")]


def plain_config(folder, **keys):
    """The config without what limits the disk."""
    config = {key: value for key, value in yaml.safe_load(CONFIG).items() if key not in ("imports", "hooks")}
    (folder / "c.yaml").write_text(yaml.safe_dump({**config, **keys}))
    return str(folder / "c.yaml")


def test_the_program_tells_of_a_full_disk_in_one_message(small_disk, tmp_path, capsys):
    config = plain_config(tmp_path, num_epochs=20, ray={"storage_path": str(small_disk)})
    assert main(["train", config, "--local", "--name", "r"]) == 1
    err = capsys.readouterr().err
    (error,) = [line for line in err.splitlines() if line.startswith("ray-classy: error: ")]
    assert "Traceback" not in err and "No space left on device" in error and f"--resume {small_disk}/r" in error


@pytest.mark.full
def test_the_program_tells_of_a_file_that_does_not_fit_in_one_message(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "limited_disk.py").write_text(LIMITED_DISK)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    command = [sys.executable, "-m", "ray_classy", "train", "c.yaml", "--local", "--name", "r"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    run = tmp_path / "runs" / "r"
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("ray-classy: error: ")]
    for part in ("epoch_0002-step_000004/checkpoint.torch", "too large (it exceeds the", "are free there"):
        assert part in error
    assert f"The last good checkpoint is {run}/epoch_0001-step_000002" in error and f"--resume {run}" in error
    assert [name for name in os.listdir(run) if name.startswith("epoch")] == ["epoch_0001-step_000002"]
    assert RunFolder(str(run)).checkpoints.load_latest()[0] == "epoch_0001-step_000002" and not halves(run)


def test_a_run_on_a_full_disk_ends_and_goes_on_when_there_is_room(small_disk):
    def task():
        made = make_task(epochs=8)
        return made.set_model(nn.Sequential(nn.Linear(6, 5000), nn.ReLU(), nn.Linear(5000, 4)))

    with pytest.raises(RunFolderError, match=r"No space left on device; .* of 1\.0 MiB are free there\. The last good"):
        LocalTrainer(str(small_disk), "r").train(task())
    run = RunFolder(str(small_disk / "r"))
    kept = run.checkpoints.names()
    assert 1 <= len(kept) < 8 and not halves(run.path) and run.record.facts()["status"] == "failed"
    for name in kept[:-1]:
        run.checkpoints.remove(name)
    result = LocalTrainer(resume=run.path).train(task().set_checkpoint_every(rounds=8))
    assert result.checkpoint.endswith("epoch_0008-step_000048")
    assert [line["epoch"] for line in result.metrics_history] == [n for n in range(1, 9) for _ in range(2)]


def test_a_run_whose_folder_may_not_be_written_any_more_ends_and_goes_on_when_it_may(small_disk):
    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True, timeout=20)

    run = small_disk / "r"
    with pytest.raises(RunFolderError, match=r"Read-only file system\. The last good checkpoint is .*epoch_0001-"):
        LocalTrainer(str(small_disk), "r").train(breaking(run, lambda: remount("ro")))
    remount("rw")
    assert len(LocalTrainer(resume=str(run)).train(make_task(epochs=3)).metrics_history) == 6


def test_a_line_that_does_not_fit_is_left_out_whole(small_disk):
    files = Storage(str(small_disk))
    files.append("lines", '{"a": 1}\n')
    with pytest.raises(StorageError, match="No space left"):
        files.append("lines", "x" * 2_000_000)
    assert files.read("lines") == b'{"a": 1}\n'


def test_a_name_is_free_again_after_a_run_that_could_not_begin(small_disk):
    (small_disk / "filling").write_bytes(bytes(2**20))
    with pytest.raises(RunFolderError, match="No space left"):
        LocalTrainer(str(small_disk), "r").train(make_task())
    assert os.listdir(small_disk) == ["filling"]


def test_metrics_that_cannot_be_written_end_the_run(tmp_path):
    run = tmp_path / "r"

    def do():
        (run / "metrics.jsonl").unlink()
        (run / "metrics.jsonl").mkdir()

    with pytest.raises(RunFolderError, match=r"metrics\.jsonl .*: Is a directory.*The last good checkpoint is .*0001-"):
        LocalTrainer(str(tmp_path), "r").train(breaking(run, do))
    assert RunFolder(str(run)).record.facts()["status"] == "failed"


def test_a_run_folder_that_is_moved_away_is_told_and_left_alone(tmp_path):
    run = tmp_path / "r"

    def do():
        run.rename(tmp_path / "moved")
        shutil.rmtree(run, ignore_errors=True)  # the thread that writes the progress may have been about to
        run.write_text("mine")

    with pytest.raises(RunFolderError, match=r"r was moved or replaced: restore it, then resume with --resume"):
        LocalTrainer(str(tmp_path), "r").train(breaking(run, do))
    assert run.read_text() == "mine"
    run.unlink()
    (tmp_path / "moved").rename(run)
    assert len(LocalTrainer(resume=str(run)).train(make_task(epochs=3)).metrics_history) == 6


def test_a_file_in_the_place_of_a_checkpoint_ends_the_run(tmp_path):
    run = tmp_path / "r"
    task = breaking(run, lambda: (run / "epoch_0002-step_000012").write_text("x"))
    with pytest.raises(
        RunFolderError, match=r"epoch_0002-\S*: Not a directory \(a file has the name of a folder in this path"
    ):
        LocalTrainer(str(tmp_path), "r").train(task)
    assert RunFolder(str(run)).checkpoints.names() == ["epoch_0001-step_000006"]


def test_a_log_that_cannot_be_written_is_told_once_and_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "r" / "log.txt").mkdir(parents=True)
    RunFolder(str(tmp_path / "runs" / "r")).describe(Path(plain_config(tmp_path)).read_text())
    assert main(["train", "--resume", "runs/r", "--local"]) == 0
    err = capsys.readouterr().err
    assert err.count("log.txt") == 1 and "Traceback" not in err and "its lines are lost" in err


def test_training_goes_on_while_a_slow_store_is_written_and_its_end_waits(tmp_path):
    store, steps = Store(seconds=0.3), []
    run = on_store(store, tmp_path)
    hook = RecordingHook(lambda task: steps.append(time.monotonic()))
    run_loop(make_task(test=None, train=200, epochs=2, hooks=[hook]), FolderSession(run))
    began, ended = store.writes[0]
    assert sum(began < step < ended for step in steps) > 5
    assert run.checkpoints.names() == ["epoch_0001-step_000050", "epoch_0002-step_000100"]
    assert run.checkpoints.load_latest()[0] == "epoch_0002-step_000100"
    run.release()


def test_a_store_that_fails_for_a_moment_costs_a_warning(tmp_path, caplog):
    store = Store(failures=1)
    run = on_store(store, tmp_path)
    run_loop(make_task(epochs=2), FolderSession(run))
    assert "the store is away; trying once more" in caplog.text
    assert run.checkpoints.names() == ["epoch_0001-step_000006", "epoch_0002-step_000012"]
    run.release()


def test_a_store_that_stays_away_ends_the_run_before_its_next_checkpoint(tmp_path):
    store = Store(failures=100)
    run = on_store(store, tmp_path)
    task = make_task(test=None, train=1000, epochs=2, hooks=[RecordingHook(lambda task: time.sleep(0.002))])
    with pytest.raises(RunFolderError, match=r"the store is away\. The run has no checkpoint yet"):
        run_loop(task, FolderSession(run))
    assert 250 < task.num_train_steps < 500 and run.checkpoints.names() == []
    assert not [name for name in run.storage.names() if name.startswith("epoch")]
    run.release()


def test_a_run_with_checkpoints_is_not_removed_for_want_of_a_log(tmp_path):
    run = RunFolder.create(str(tmp_path), "r")
    run.describe(None)
    run_loop(make_task(), FolderSession(run))
    (tmp_path / "r" / "metrics.jsonl").unlink()
    run.remove_if_unused()
    run.release()
    assert run.checkpoints.names()
