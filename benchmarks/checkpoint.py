"""Measures how long training pauses for a checkpoint, against a save that blocks training.

    python benchmarks/checkpoint.py [--megabytes 400] [--repeats 5]

The model is one large layer with momentum, on the GPU if there is one, so a checkpoint has about twice the model's
size. Both variants write the same file to the same disk, in turn. The pause of the training thread is measured; the
time until the file is complete is printed too.
"""

import argparse
import statistics
import tempfile
import time

import torch
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession


def make_task(megabytes: int) -> ClassificationTask:
    """Makes a task whose model has about that size, after one train step."""
    width = int((megabytes * 2**20 / 4) ** 0.5)
    rows = [{"input": torch.zeros(width), "target": 0} for _ in range(4)]
    task = ClassificationTask().set_dataset(ClassyDataset(rows, 1, False), "train").set_num_epochs(1)
    task.set_model(ClassyModel.from_model(nn.Linear(width, width))).set_loss(nn.CrossEntropyLoss())
    task.set_optimizer(build_optimizer({"name": "sgd", "lr": 0.1, "momentum": 0.9}))
    task.prepare()
    task.on_phase_start()
    task.step()
    return task


def main() -> None:
    """Prints the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    task = make_task(options.megabytes)
    stalls: dict[str, list[float]] = {"waits": [], "goes on": []}
    there = []
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(folder, "run")
        session = FolderSession(run)
        for repeat in range(options.repeats):
            for way, times in stalls.items():
                if task.use_gpu:
                    torch.cuda.synchronize()
                began = time.perf_counter()
                session._write(f"epoch_{repeat:04d}-step_{len(times):06d}", task, task.get_phase_state())
                if way == "waits":
                    session._writer.wait()
                times.append(time.perf_counter() - began)
                session._writer.wait()
                if way == "goes on":
                    there.append(time.perf_counter() - began)
        session.close()
        run.release()
    waits, goes_on = (statistics.median(times) for times in stalls.values())
    print(f"a checkpoint of {2 * options.megabytes} MiB, state on {task.device.type}")
    print(f"  training waits for the file    {waits:6.2f} s")
    print(f"  training continues meanwhile   {goes_on:6.2f} s; complete after {statistics.median(there):.2f} s")
    print(f"  pause, relative to a save that blocks training: {goes_on / waits:.2f}")


if __name__ == "__main__":
    main()
