"""Measures what a task adds to a training step, against a hand-written loop over the same model and batches.

    python benchmarks/step_overhead.py [--model small] [--steps 100]

Both train on the same batches, which are ready in memory (the GPU's, if there is one), in turn, several times. Both
count accuracy. With a GPU the forward pass runs in bfloat16. The ratio is the hand-written loop's time over the task's.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from ray_classy.dataset import ClassyDataset
from ray_classy.losses import build_loss
from ray_classy.meters import build_meters
from ray_classy.models import build_model
from ray_classy.optim import build_optimizer
from ray_classy.tasks import ClassificationTask

ROUNDS = 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCHES = 4
"""Number of different batches, which are used in turn."""

SIZES = {"small": (32, 10), "resnet50": (224, 1000)}
"""Maps a model to its input size in pixels and its number of classes."""


class Given:
    """Yields `len` batches, cycling through the given ones."""

    def __init__(self, batches: list[dict[str, torch.Tensor]], steps: int) -> None:
        self.batches, self.steps, self.step = batches, steps, 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> "Given":
        return self

    def __next__(self) -> dict[str, torch.Tensor]:
        if self.step == self.steps:
            raise StopIteration
        self.step += 1
        return dict(self.batches[self.step % len(self.batches)])


class Ready(ClassyDataset):
    """A dataset with prepared batches."""

    def __init__(self, batches: list[dict[str, torch.Tensor]], steps: int) -> None:
        super().__init__([None] * (steps * len(batches[0]["target"])), len(batches[0]["target"]), False)
        self.batches, self.steps = batches, steps

    def iterator(self, *args: Any, **kwargs: Any) -> Any:
        """The batches."""
        return Given(self.batches, self.steps)


def make_batches(pixels: int, classes: int, size: int) -> list[dict[str, torch.Tensor]]:
    """Makes batches of random images and labels."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "input": torch.randn(size, 3, pixels, pixels, generator=generator).to(DEVICE),
            "target": torch.randint(0, classes, (size,), generator=generator).to(DEVICE),
        }
        for _ in range(BATCHES)
    ]


def make_model(name: str) -> torch.nn.Module:
    """Builds a small ResNet for 32x32 pixels, or ResNet-50."""
    torch.manual_seed(0)
    if name == "small":
        head = {"name": "fully_connected", "unique_id": "head", "num_classes": 10, "in_plane": 32}
        shape = {"small_input": True, "basic_layer": True, "num_blocks": [1, 1], "init_planes": 16}
        return build_model({"name": "resnet", **shape, "heads": [{**head, "fork_block": "block1-0"}]})
    head = {"name": "fully_connected", "unique_id": "head", "num_classes": 1000, "in_plane": 2048}
    return build_model({"name": "resnet", "num_blocks": [3, 4, 6, 3], "heads": [{**head, "fork_block": "block3-2"}]})


def finish() -> None:
    """Waits for the GPU."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def by_hand(name: str, batches: list[dict[str, torch.Tensor]], steps: int) -> float:
    """Seconds per step of a plain loop that also counts accuracy."""
    network, loss_of = make_model(name).to(DEVICE), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    losses, correct = [], torch.zeros((), device=DEVICE)
    network.train()
    began = time.perf_counter()
    for step, sample in enumerate(Given(batches, steps)):
        if step == steps // 5:  # what the first steps take to set up does not count
            finish()
            began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            output = network(sample["input"])
            loss = loss_of(output, sample["target"])
        losses.append(loss.detach())
        correct += (output.argmax(1) == sample["target"]).sum()
        loss.backward()
        optimizer.step()
    torch.stack(losses).mean().item()
    finish()
    return (time.perf_counter() - began) / (steps - steps // 5)


def by_task(name: str, batches: list[dict[str, torch.Tensor]], steps: int) -> float:
    """Seconds per step of a task's train phase."""
    task = ClassificationTask().set_num_epochs(1).set_model(make_model(name))
    task.set_loss(build_loss({"name": "CrossEntropyLoss"})).set_meters(build_meters({"accuracy": {"topk": [1]}}))
    task.set_optimizer(build_optimizer({"name": "sgd", "lr": 0.1, "momentum": 0.9}))
    task.set_dataset(Ready(batches, steps), "train")
    if DEVICE.type == "cuda":
        task.set_amp_args({"amp_type": "pytorch", "dtype": "bfloat16"})
    task.prepare()
    task.on_start()
    task.on_phase_start()
    began = time.perf_counter()
    for step in range(steps):
        if step == steps // 5:
            finish()
            began = time.perf_counter()
        task.step()
    task.on_phase_end()
    finish()
    return (time.perf_counter() - began) / (steps - steps // 5)


def main() -> None:
    """Prints both times per step, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    batches = make_batches(*SIZES[arguments.model], arguments.batch)
    given = arguments.model, batches, arguments.steps
    pairs = [(by_hand(*given), by_task(*given)) for _ in range(ROUNDS)]
    hand, task = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    print(f"{arguments.model}, batches of {arguments.batch} on {DEVICE.type}, {arguments.steps} steps")
    print(f"hand-written {hand:.2f} ms, task {task:.2f} ms per step; ratio {hand / task:.3f}")


if __name__ == "__main__":
    main()
