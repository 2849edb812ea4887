"""How often a resumed run reads its checkpoint, and that none travels with the task."""

import functools
import os
import sys
from collections import Counter

import pytest
import torch
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

from ray_classy.hooks import ClassyHook
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer, RayTrainer
from ray_classy.trainer.local_trainer import check_start
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.trainer.shipping import pickled
from tests.helpers import make_task
from tests.trainer.ray_parts import digits_config, digits_task


class CountingFileSystem(LocalFileSystem):
    """Notes the process and the path of every checkpoint that is opened for reading."""

    cachable = False

    def __init__(self, log):
        super().__init__()
        self.log = log

    def _open(self, path, mode="rb", **options):
        if "r" in mode and path.endswith("checkpoint.torch"):
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {path}\n")
        return super()._open(path, mode, **options)


def reads(log, checkpoint):
    """Reads of one checkpoint, by process."""
    name = os.path.basename(checkpoint)
    with open(log) as file:
        return Counter(int(line.split()[0]) for line in file if name in line)


def stored(log):
    return fs.PyFileSystem(fs.FSSpecHandler(CountingFileSystem(str(log))))


class NotesReads(ClassyHook):
    """Notes each process that opens a file, beside the file, from when the task reaches the process."""

    on_start = on_step = on_phase_start = on_phase_end = on_end = ClassyHook._noop
    noted = set()

    def __init__(self, file):
        super().__init__()
        self.__setstate__({"file": str(file)})

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.file not in self.noted:
            self.noted.add(self.file)
            sys.addaudithook(functools.partial(note, self.file))


def note(file, event, arguments):
    if event == "open" and arguments[0] == file:
        with open(f"{file}.reads", "a") as log:
            log.write(f"{os.getpid()} {file}\n")


@pytest.mark.ray
@pytest.mark.full
def test_weights_to_start_from_are_read_once_by_the_driver(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    config = digits_config(name="fine_tuning", pretrained_checkpoint=str(tmp_path / "w.pth"), num_epochs=1)
    torch.save({"state_dict": digits_task().base_model.state_dict()}, tmp_path / "w.pth")
    task = build_task(config).set_hooks([NotesReads(tmp_path / "w.pth")])
    RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path), name="run").train(task)
    assert reads(tmp_path / "w.pth.reads", "w.pth") == {os.getpid(): 1}
    assert "entries of MLP" in (tmp_path / "run" / "log.txt").read_text(), "the table, of a worker"


@pytest.mark.ray
def test_each_process_of_a_resumed_run_reads_its_checkpoint_once(ray_cluster, tmp_path):
    from ray.train import RunConfig, ScalingConfig

    log = tmp_path / "log"
    first = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=1))
    config = RunConfig(storage_path=str(tmp_path), storage_filesystem=stored(log))
    RayTrainer(ScalingConfig(num_workers=2), config, resume=first.path).train(make_task(epochs=2))
    by_process = reads(log, first.checkpoint)
    assert by_process[os.getpid()] == 1, "the driver, which tries it before anything is started"
    assert sorted(by_process.values()) == [1, 1, 1]


def test_a_local_run_reads_its_checkpoint_once(tmp_path):
    first = LocalTrainer(str(tmp_path)).train(make_task(epochs=1))
    file, opened = os.path.join(first.checkpoint, "checkpoint.torch"), []
    sys.addaudithook(lambda event, args: opened.append(args) if event == "open" and args[:2] == (file, None) else None)
    LocalTrainer(resume=first.path).train(make_task(epochs=2))
    assert len(opened) == 1


def test_the_checkpoint_of_a_resumed_run_does_not_travel_with_the_task(tmp_path):
    first = LocalTrainer(str(tmp_path)).train(make_task(epochs=1))
    task = make_task(epochs=2)
    before = len(pickled(task))
    assert check_start(task, RunSpec.of_task(task, resume=first.path)) is not None
    assert len(pickled(task)) < before + 100
