"""Measures what a task adds to a training step, against the same loop written by hand, with Ignite and with Lightning.

    python benchmarks/step_overhead.py [--model linear] [--loops hand task unlabelled ignite lightning]

Each loop runs in a process of its own. The processes take turns of `--steps` steps; the first turn warms up and is not
counted. All train the same model on the same batches, which are ready in memory (the GPU's, if there is one), with SGD,
count the top-1 accuracy, and fetch the losses from the device once, at the end of a turn. By default each computes the
updates as it does by itself, the task on a CPU in fused kernels; `--optimizer plain`, `foreach` or `fused` compares
equal updates.
In `unlabelled` the task's dataset does not know its labels without reading rows, so that each step asks how many of
them the loss ignores.
On a GPU the forward pass runs in bfloat16; on a CPU every process has one thread. Loops whose packages
(`pytorch-ignite`, `lightning`) are not installed are left out.

Printed are the medians of the times per step, and of their ratios to the hand-written loop's in the same round. Where
other processes share the CPUs, compare the CPU times.
"""

import argparse
import functools
import importlib.util
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCHES = 4
"""Number of different batches, which are used in turn."""

SIZES = {"linear": (32, 10), "blocks": (32, 10), "resnet18": (32, 10), "resnet50": (224, 1000)}
"""Maps a model to its input size in pixels and its number of classes."""

IMPLEMENTATIONS = {
    "default": {},
    "plain": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
"""Maps a choice of `--optimizer` to options of SGD, for all loops."""

Batch = tuple[torch.Tensor, torch.Tensor]


def make_batches(pixels: int, classes: int, size: int) -> list[Batch]:
    """Makes batches of random images and labels."""
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 3, pixels, pixels, generator=generator).to(DEVICE),
            torch.randint(0, classes, (size,), generator=generator).to(DEVICE),
        )
        for _ in range(BATCHES)
    ]


def make_model(name: str) -> nn.Module:
    """Builds one linear layer, a ResNet with two narrow blocks, ResNet-18 or ResNet-50."""
    torch.manual_seed(0)
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    from torchvision.models import resnet
    from torchvision.models.resnet import BasicBlock, ResNet

    if name == "blocks":
        return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10, width_per_group=64)
    return {"resnet18": resnet.resnet18, "resnet50": resnet.resnet50}[name](num_classes=SIZES[name][1])


class Given:
    """Batches in turn, of which Lightning would take a list for several loaders."""

    def __init__(self, batches: list[Batch], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return (self.batches[step % len(self.batches)] for step in range(self.steps))


class Clock:
    """Takes the time of a turn, in a process that the parent asks for one turn after another.

    Args:
        steps: per turn.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.took = (0.0, 0.0)

    def begin(self) -> None:
        """Reports the turn that has ended, waits until it is this process's turn again, and starts the clock."""
        print("turn", *self.took, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # the parent has all that it wants, and the loop would go on
        self.began = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Stops the clock, when the GPU has done its work."""
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter(), time.process_time()
        self.took = (now[0] - self.began[0]) / self.steps, (now[1] - self.began[1]) / self.steps


def sgd(network: nn.Module, implementation: dict[str, bool]) -> torch.optim.Optimizer:
    """Returns the optimizer of the loops that are not a task's."""
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, **implementation)


def amp() -> torch.autocast:
    """The context of a forward pass."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda")


def update(
    network: nn.Module, loss_of: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Trains on a batch, and returns the output and the loss."""
    inputs, target = batch
    optimizer.zero_grad()
    with amp():
        output = network(inputs)
        loss = loss_of(output, target)
    loss.backward()
    optimizer.step()
    return output, loss.detach()


def by_hand(name: str, batches: list[Batch], clock: Clock, implementation: dict[str, bool]) -> None:
    """The loop that one would write."""
    network, loss_of = make_model(name).to(DEVICE).train(), nn.CrossEntropyLoss()
    optimizer = sgd(network, implementation)
    while True:
        clock.begin()
        losses, correct = [], torch.zeros((), device=DEVICE)
        for batch in Given(batches, clock.steps):
            output, loss = update(network, loss_of, optimizer, batch)
            losses.append(loss)
            correct += (output.argmax(1) == batch[1]).sum()
        (torch.stack(losses).mean().item(), correct.item())
        clock.end()


def by_task(
    name: str, batches: list[Batch], clock: Clock, implementation: dict[str, bool], labelled: bool = True
) -> None:
    """Train phases of a task in `LocalTrainer`."""
    from ray_classy.dataset import ClassyDataset
    from ray_classy.dataset.loader import PhaseIterator
    from ray_classy.dataset.seeded_rows import Batch as Rows
    from ray_classy.hooks import ClassyHook
    from ray_classy.losses import build_loss
    from ray_classy.meters import build_meters
    from ray_classy.models import ClassyModel
    from ray_classy.optim import build_optimizer
    from ray_classy.tasks import ClassificationTask
    from ray_classy.trainer import LocalTrainer

    size = len(batches[0][1])

    class Ready(ClassyDataset):
        """A dataset with prepared batches."""

        def iterator(self, *args: Any, **options: Any) -> Any:
            """The batches, as a dataset's loader gives them."""
            plan = self.plan("train", options["current_phase_id"], options["seed"])
            made: Iterator[Rows] = (
                Rows(dict(zip(("input", "target"), batches[step % len(batches)], strict=True)), size, [])
                for step in range(clock.steps)
            )
            return PhaseIterator(made, plan, 0)

        def labels(self) -> Any:
            """The labels of all rows, as a dataset of folders or of a manifest knows them."""
            return np.zeros(len(self), dtype=np.int64) if labelled else None

    class Timed(ClassyHook):
        """Starts and stops the clock."""

        on_start = on_step = on_end = ClassyHook._noop

        def on_phase_start(self, task: Any) -> None:
            """Before the first step."""
            clock.begin()

        def on_phase_end(self, task: Any) -> None:
            """After the losses are fetched."""
            clock.end()

    row = {"input": batches[0][0][0], "target": int(batches[0][1][0])}
    rows: Any = [row] * (clock.steps * size)
    task = ClassificationTask().set_num_epochs(100_000).set_dataset(Ready(rows, size, False), "train")
    task.set_model(ClassyModel.from_model(make_model(name), input_shape=tuple(batches[0][0].shape[1:])))
    task.set_loss(build_loss({"name": "CrossEntropyLoss"})).set_meters(build_meters({"accuracy": {"topk": [1]}}))
    task.set_optimizer(build_optimizer({"name": "SGD", "lr": 0.01, "momentum": 0.9, **implementation}))
    task.set_hooks([Timed()]).set_checkpoint_every(rounds=100_000)
    if DEVICE.type == "cuda":
        task.set_amp_args({"amp_type": "pytorch", "dtype": "bfloat16"})
    with tempfile.TemporaryDirectory() as storage:
        LocalTrainer(storage).train(task)


def by_ignite(name: str, batches: list[Batch], clock: Clock, implementation: dict[str, bool]) -> None:
    """An Ignite engine with its accuracy."""
    from ignite.engine import Engine, Events
    from ignite.metrics import Accuracy

    network, loss_of = make_model(name).to(DEVICE).train(), nn.CrossEntropyLoss()
    optimizer = sgd(network, implementation)
    losses: list[torch.Tensor] = []

    def step(engine: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        output, loss = update(network, loss_of, optimizer, batch)
        losses.append(loss)
        return output, batch[1]

    def end() -> None:
        torch.stack(losses).mean().item()
        losses.clear()
        clock.end()

    engine = Engine(step)
    Accuracy(device=DEVICE).attach(engine, "top_1")
    engine.add_event_handler(Events.EPOCH_STARTED, clock.begin)
    engine.add_event_handler(Events.EPOCH_COMPLETED, end)
    engine.run(Given(batches, clock.steps), max_epochs=100_000)


def by_lightning(name: str, batches: list[Batch], clock: Clock, implementation: dict[str, bool]) -> None:
    """A Lightning trainer without logger, checkpoints and progress bar."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        """The network, its loss and its optimizer."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.loss_of = make_model(name), nn.CrossEntropyLoss()

        def on_train_epoch_start(self) -> None:
            """Before the first step."""
            clock.begin()
            self.losses: list[torch.Tensor] = []
            self.correct = torch.zeros((), device=DEVICE)

        def training_step(self, batch: Batch, index: int) -> torch.Tensor:
            """The loss of a step."""
            inputs, target = batch
            output = self.network(inputs)
            loss = self.loss_of(output, target)
            self.losses.append(loss.detach())
            self.correct += (output.argmax(1) == target).sum()
            return loss

        def on_train_epoch_end(self) -> None:
            """Fetches the losses."""
            (torch.stack(self.losses).mean().item(), self.correct.item())
            clock.end()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            """The optimizer of the others."""
            return sgd(self, implementation)

    trainer = lightning.Trainer(
        max_epochs=100_000,
        accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if DEVICE.type == "cuda" else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), Given(batches, clock.steps))


LOOPS: dict[str, tuple[str, Callable[[str, list[Batch], Clock, dict[str, bool]], None]]] = {
    "hand": ("torch", by_hand),
    "task": ("ray_classy", by_task),
    "unlabelled": ("ray_classy", functools.partial(by_task, labelled=False)),
    "ignite": ("ignite", by_ignite),
    "lightning": ("lightning", by_lightning),
}
"""Maps a loop to the package that it needs, and its function."""


class Turns:
    """The process of a loop."""

    def __init__(self, loop: str, options: argparse.Namespace) -> None:
        words = ["--model", options.model, "--steps", options.steps, "--batch", options.batch]
        command = [sys.executable, __file__, "--loop", loop, "--optimizer", options.optimizer, *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if DEVICE.type == "cpu" else None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        self._answer()

    def _answer(self) -> tuple[float, ...]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("turn "):
                return tuple(float(word) * 1e6 for word in line.split()[1:])
        raise SystemExit("a loop has failed: see above")

    def turn(self) -> tuple[float, ...]:
        """Microseconds per step of the next turn: passed, and of CPU time."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(loops: list[str], options: argparse.Namespace) -> None:
    """Prints the times per step of the loops, and their ratios to the first one's."""
    turns = {loop: Turns(loop, options) for loop in loops}
    for one in turns.values():
        one.turn()
    rounds = [{loop: one.turn() for loop, one in turns.items()} for _ in range(options.rounds)]
    for one in turns.values():
        one.close()
    print(f"{options.model}, batches of {options.batch} on {DEVICE.type}, torch {torch.__version__}")
    print(f"{options.rounds} rounds of {options.steps} steps with {options.optimizer} SGD; microseconds per step\n")
    print(f"{'loop':12}{'time':>12}{'ratio':>8}{'CPU time':>12}{'ratio':>8}")
    for loop in loops:
        columns = ""
        for clock in (0, 1):
            times = [one[loop][clock] for one in rounds]
            ratios = [one[loop][clock] / one[loops[0]][clock] for one in rounds]
            columns += f"{statistics.median(times):12.1f}{statistics.median(ratios):8.3f}"
        print(f"{loop:12}{columns}")


def main() -> None:
    """Compares the loops, or runs one of them for the parent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="linear")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--loops", choices=LOOPS, nargs="+", default=list(LOOPS))
    parser.add_argument("--optimizer", choices=IMPLEMENTATIONS, default="default")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop is None:
        missing = [loop for loop in options.loops if importlib.util.find_spec(LOOPS[loop][0]) is None]
        if missing:
            print(f"left out, because not installed: {', '.join(missing)}")
        compare([loop for loop in options.loops if loop not in missing], options)
        return
    warnings.filterwarnings("ignore", module="lightning")
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    batches = make_batches(*SIZES[options.model], options.batch)
    LOOPS[options.loop][1](options.model, batches, Clock(options.steps), IMPLEMENTATIONS[options.optimizer])


if __name__ == "__main__":
    main()
