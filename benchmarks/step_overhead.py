"""What a task adds to a training step, beside a hand-written loop over the same model and rows.

    python benchmarks/step_overhead.py [--steps 100]

Both train a small network on tensors in memory, in turn, several times; the ratio is hand-written over task time.
"""

import argparse
import statistics
import time

import torch

from ray_classy.dataset import ClassyDataset
from ray_classy.losses import build_loss
from ray_classy.meters import build_meters
from ray_classy.models import build_model
from ray_classy.optim import build_optimizer
from ray_classy.tasks import ClassificationTask

ROUNDS = 5


class Rows(torch.utils.data.Dataset):
    """Random images in memory."""

    def __init__(self, rows: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(rows, 3, 32, 32, generator=generator)
        self.labels = torch.randint(0, 10, (rows,), generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"input": self.images[index], "target": self.labels[index]}


def model() -> torch.nn.Module:
    """A small ResNet for 32x32 pixels."""
    head = {"name": "fully_connected", "unique_id": "head", "num_classes": 10, "in_plane": 32, "fork_block": "block1-0"}
    torch.manual_seed(0)
    return build_model(
        {
            "name": "resnet",
            "small_input": True,
            "basic_layer": True,
            "num_blocks": [1, 1],
            "init_planes": 16,
            "heads": [head],
        }
    )


def by_hand(rows: Rows, batch: int) -> float:
    """Seconds per step of a plain loop, accuracy counted on the way."""
    network, loss_of = model(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    loader = torch.utils.data.DataLoader(rows, batch, shuffle=True)
    losses, correct, steps = [], torch.zeros(()), 0
    network.train()
    began = time.perf_counter()
    for sample in loader:
        optimizer.zero_grad()
        output = network(sample["input"])
        loss = loss_of(output, sample["target"])
        losses.append(loss.detach())
        correct += (output.argmax(1) == sample["target"]).sum()
        loss.backward()
        optimizer.step()
        steps += 1
    torch.stack(losses).mean().item()
    return (time.perf_counter() - began) / steps


def by_task(rows: Rows, batch: int) -> float:
    """Seconds per step of a task's train phase."""
    task = ClassificationTask().set_num_epochs(1).set_model(model()).set_loss(build_loss({"name": "CrossEntropyLoss"}))
    task.set_optimizer(build_optimizer({"name": "sgd", "lr": 0.1, "momentum": 0.9}))
    task.set_meters(build_meters({"accuracy": {"topk": [1]}})).set_dataset(ClassyDataset(rows, batch, True), "train")
    task.prepare()
    task.on_start()
    began = time.perf_counter()
    task.on_phase_start()
    steps = 0
    while True:
        try:
            task.step()
        except StopIteration:
            break
        steps += 1
    task.on_phase_end()
    return (time.perf_counter() - began) / steps


def main() -> None:
    """Prints both times per step, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(arguments.steps * arguments.batch)
    pairs = [(by_hand(rows, arguments.batch), by_task(rows, arguments.batch)) for _ in range(ROUNDS)]
    hand, task = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    print(f"hand-written {hand:.2f} ms, task {task:.2f} ms per step; ratio {hand / task:.3f}")


if __name__ == "__main__":
    main()
