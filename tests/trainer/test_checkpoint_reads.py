"""How often a resumed run reads its checkpoint, and that none travels with the task."""

import os
import sys
from collections import Counter

import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

from ray_classy.trainer import LocalTrainer, RayTrainer
from ray_classy.trainer.local_trainer import check_start
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.trainer.shipping import pickled
from tests.helpers import make_task


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
