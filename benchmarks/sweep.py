"""Measures how many short trials a sweep trains per minute, against plain Ray Tune and a TorchTrainer in each trial.

    python benchmarks/sweep.py [--trials 32] [--nested-trials 4] [--repeats 1] [--asha] [--flat 1000] [--only]

All variants train the same task with the same learning rates on a local Ray with two CPUs, each in a separate process,
in turn. Ray is already running and warm; one `fit` is measured. The variants are:

ours      a `TaskTuner`
rows      a hand-written function trainable with reused actors, which reads and transforms the rows in every epoch
tensors   the same, but rows are read once per trial and kept as tensors (possible because no transform is random)
nested    Ray's documented pattern: a function trainable that fits a single-worker TorchTrainer in each trial

`--asha` compares ASHA with training every trial to its end. `--flat N` runs N nearly empty trials and shows how the
time per trial and the memory develop. `--only` skips the comparison of the variants.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
import torch
from ray import train, tune
from ray.train.torch import TorchTrainer, prepare_model
from ray.tune.integration.ray_train import TuneReportCallback

from ray_classy.dataset import build_dataset
from ray_classy.tune import Space, SweepResult, TaskTuner

CPUS, SEED, BATCH, WIDTH = 2, 0, 64, 64
METRIC, LR = "test.accuracy.top_1", "optimizer.param_schedulers.lr.start_value"
WAYS = ("ours", "rows", "tensors", "nested")
TRANSFORMS = [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}]
ROWS = {"name": "digits", "batchsize_per_replica": BATCH, "use_shuffle": False, "transforms": TRANSFORMS}
CONFIG: dict[str, Any] = {
    "name": "classification_task",
    "seed": SEED,
    "num_epochs": 3,
    "dataset": {"train": {**ROWS, "split": "train", "use_shuffle": True}, "test": {**ROWS, "split": "test"}},
    "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [WIDTH]},
    "loss": {"name": "CrossEntropyLoss"},
    "meters": {"accuracy": {"topk": [1]}},
    "optimizer": {
        "name": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
        "param_schedulers": {
            "lr": {
                "name": "cosine",
                "start_value": {"search": "loguniform", "lower": 0.01, "upper": 1.0},
                "end_value": 0.0,
            }
        },
    },
}


class Clock(tune.Callback):
    """Records when trials start and end, and time and memory after every `block` of them."""

    def __init__(self, block: int = 0) -> None:
        self.began, self.ended, self.block = 0.0, 0.0, block
        self.points: list[tuple[float, float, float]] = []
        self.count = 0

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.ended = time.perf_counter()
        self.count += 1
        if self.block and self.count % self.block == 0:
            self.points.append((self.ended, mebibytes(os.getpid()), mebibytes(trial.last_result["pid"])))


def mebibytes(process: int) -> float:
    """The resident memory of a process on this machine."""
    try:
        with open(f"/proc/{process}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return float("nan")


# -- variants ----------------------------------------------------------------------------------------------------------


def ours(samples: int, storage: str, clock: Clock) -> list[tuple[int, float]]:
    """Runs a `TaskTuner` and returns epochs and accuracy of each trial."""
    chosen = tune.TuneConfig(num_samples=samples, metric=METRIC, mode="max", reuse_actors=True)
    run = tune.RunConfig(storage_path=storage, callbacks=[clock])
    result = TaskTuner(CONFIG, tune_config=chosen, run_config=run, progress=False).fit()
    return [(record.epoch, record.metrics[METRIC]) for record in result.trials]


def hand(samples: int, storage: str, clock: Clock, in_memory: bool) -> list[tuple[int, float]]:
    """The same for a function that trains in the process of the trial."""

    def trial(config: dict[str, Any]) -> None:
        def report(metrics: dict[str, Any], folder: str) -> None:
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

        train_by_hand(config["lr"], in_memory, report)

    return fitted(tune.with_resources(trial, {"CPU": 1}), samples, storage, clock, reuse_actors=True)


def nested(samples: int, storage: str, clock: Clock) -> list[tuple[int, float]]:
    """The same for a function that fits a TorchTrainer; two run at once, as in the other variants."""

    def worker(config: dict[str, Any]) -> None:
        def report(metrics: dict[str, Any], folder: str) -> None:
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))

        train_by_hand(config["lr"], True, report, prepare_model)

    def trial(config: dict[str, Any]) -> None:
        name = tune.get_context().get_trial_id()
        TorchTrainer(
            worker,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.98}),
            run_config=train.RunConfig(name=name, storage_path=f"{storage}/train", callbacks=[TuneReportCallback()]),
        ).fit()

    return fitted(tune.with_resources(trial, {"CPU": 0.01}), samples, storage, clock, max_concurrent_trials=CPUS)


def fitted(trial: Any, samples: int, storage: str, clock: Clock, **chosen: Any) -> list[tuple[int, float]]:
    """Runs a function over the learning rates of `ours` and returns epochs and accuracy of each trial."""
    space = Space(CONFIG)
    rates = [space.draw(index, SEED)[LR] for index in range(samples)]
    tuner = tune.Tuner(
        trial,
        param_space={"lr": tune.grid_search(rates)},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", **chosen),
        run_config=tune.RunConfig(
            storage_path=storage,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[clock],
            verbose=0,
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(results.errors[0])
    return [(result.metrics["epoch"], result.metrics["accuracy"]) for result in results]


def train_by_hand(
    lr: float,
    in_memory: bool,
    report: Callable[[dict[str, Any], str], None],
    prepare: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model,
) -> None:
    """Trains, tests, and reports each epoch with a checkpoint, as a user would write it without ray_classy.

    Args:
        lr: the initial learning rate.
        in_memory: whether to cache the transformed rows.
        report: called with the metrics of an epoch and the folder of its checkpoint.
        prepare: wraps the model for its workers.
    """
    torch.manual_seed(SEED)
    sets = {name: build_dataset(config) for name, config in CONFIG["dataset"].items()}
    batches = tensor_batches if in_memory else row_batches
    loaders = {name: batches(dataset, name == "train") for name, dataset in sets.items()}
    epochs, steps = CONFIG["num_epochs"], -(-len(sets["train"]) // BATCH)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, WIDTH), torch.nn.ReLU(inplace=True), torch.nn.Linear(WIDTH, 10)
    )
    model, loss_of = prepare(model), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for epoch in range(1, epochs + 1):
        model.train()
        total, correct = torch.zeros(()), torch.zeros(())
        for images, labels in loaders["train"]():
            optimizer.zero_grad()
            output = model(images)
            loss = loss_of(output, labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(labels)
            correct += (output.argmax(1) == labels).sum()
        metrics = {"epoch": epoch, "train_loss": total.item() / len(sets["train"])}
        metrics["train_accuracy"] = correct.item() / len(sets["train"])
        model.eval()
        total, correct = torch.zeros(()), torch.zeros(())
        with torch.no_grad():
            for images, labels in loaders["test"]():
                output = model(images)
                total += loss_of(output, labels) * len(labels)
                correct += (output.argmax(1) == labels).sum()
        metrics["loss"], metrics["accuracy"] = total.item() / len(sets["test"]), correct.item() / len(sets["test"])
        with tempfile.TemporaryDirectory() as folder:
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save({**states, "schedule": schedule.state_dict()}, f"{folder}/checkpoint.pt")
            report(metrics, folder)


def row_batches(dataset: Any, shuffle: bool) -> Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """Yields the batches of an epoch, from rows that are read and transformed for it."""
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=shuffle)
    return lambda: ((sample["input"], sample["target"]) for sample in loader)


def tensor_batches(dataset: Any, shuffle: bool) -> Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """Yields the batches of an epoch, from rows that were read once."""
    samples = [dataset[index] for index in range(len(dataset))]
    images = torch.stack([sample["input"] for sample in samples])
    labels = torch.tensor([sample["target"] for sample in samples])

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(labels)) if shuffle else torch.arange(len(labels))
        return ((images[rows], labels[rows]) for rows in order.split(BATCH))

    return batches


# -- what runs in a separate process ----------------------------------------------------------------------------------


def trained(way: str, samples: int, storage: str) -> dict[str, Any]:
    """Runs one `fit` of one variant."""
    clock = Clock()
    ways: dict[str, Callable[[], list[tuple[int, float]]]] = {
        "ours": lambda: ours(samples, storage, clock),
        "rows": lambda: hand(samples, storage, clock, in_memory=False),
        "tensors": lambda: hand(samples, storage, clock, in_memory=True),
        "nested": lambda: nested(samples, storage, clock),
    }
    began = time.perf_counter()
    trials = ways[way]()
    total = time.perf_counter() - began
    return {"trials": trials, "seconds": clock.ended - clock.began, "total": total}


def scheduled(name: str, samples: int, storage: str) -> dict[str, Any]:
    """Runs a sweep of longer trials with a scheduler."""
    scheduler = {"name": "asha", "grace_period": 1, "reduction_factor": 3} if name == "asha" else {"name": "fifo"}
    config = copy.deepcopy(CONFIG)
    config["num_epochs"] = 9
    config["optimizer"]["param_schedulers"]["lr"]["start_value"].update(lower=1e-3)
    config["tune"] = {"metric": METRIC, "num_samples": samples, "scheduler": scheduler}
    began = time.perf_counter()
    result: SweepResult = TaskTuner(config, run_config=tune.RunConfig(storage_path=storage), progress=False).fit()
    total = time.perf_counter() - began
    return {"trials": [(record.epoch, record.metrics[METRIC]) for record in result.trials], "total": total}


def trivial(samples: int, storage: str) -> dict[str, Any]:
    """Runs a sweep of nearly empty trials."""
    config = copy.deepcopy(CONFIG)
    config["num_epochs"] = 1
    for dataset in config["dataset"].values():
        dataset["num_samples"] = 8
    config["model"]["hidden_dims"] = [8]
    config["tune"] = {"metric": METRIC, "num_samples": samples}
    clock = Clock(block=max(1, samples // 10))
    run = tune.RunConfig(storage_path=storage, callbacks=[clock])
    began = time.perf_counter()
    TaskTuner(config, run_config=run, progress=False).fit()
    total = time.perf_counter() - began
    points = [(at - clock.began, *memory) for at, *memory in clock.points]
    return {"points": points, "block": clock.block, "total": total}


def child(section: str, samples: int) -> None:
    """Runs a section on a warm Ray and prints its result as JSON."""
    with tempfile.TemporaryDirectory() as storage:
        ray.init("local", num_cpus=CPUS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)

        @ray.remote(num_cpus=1)
        def warm() -> None:
            import torchvision  # noqa: F401

            import ray_classy.tune  # noqa: F401

        ray.get([warm.remote() for _ in range(CPUS)])
        if section in WAYS:
            found = trained(section, samples, storage)
        elif section == "trivial":
            found = trivial(samples, storage)
        else:
            found = scheduled(section, samples, storage)
        ray.shutdown()
    print(json.dumps(found))


def run(section: str, samples: int) -> dict[str, Any]:
    """Runs a section in a separate process and returns its result."""
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
    command = [sys.executable, __file__, "--child", section, "--trials", str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# -- what is printed --------------------------------------------------------------------------------------------------


def compare(samples: int, nested_samples: int, repeats: int) -> None:
    """Prints trials per minute of each variant, and the ratios."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            found = run(way, nested_samples if way == "nested" else samples)
            epochs, accuracies = zip(*found["trials"], strict=True)
            rates[way].append(60 * len(epochs) / found["total"])
            print(
                f"{way:8} {len(epochs):3} trials {sum(epochs):4} epochs, "
                f"accuracy mean {statistics.mean(accuracies):.4f} max {max(accuracies):.4f}, "
                f"first start to last end {found['seconds']:6.1f} s, total {found['total']:6.1f} s",
                flush=True,
            )
    medians = {way: statistics.median(values) for way, values in rates.items()}
    print("trials per minute:", ", ".join(f"{way} {rate:.1f}" for way, rate in medians.items()))
    ratios = {way: medians["ours"] / medians[way] for way in WAYS[1:]}
    print(
        f"ratio to a function by hand {ratios['tensors']:.2f} on tensors, {ratios['rows']:.2f} on rows (goal 0.95); "
        f"to a TorchTrainer in each trial {ratios['nested']:.1f} (goal 5)"
    )


def compare_schedulers(samples: int) -> None:
    """Prints what ASHA finds and how many epochs it trains, against training all trials to their end."""
    spent = {}
    for name in ("fifo", "asha"):
        found = run(name, samples)
        epochs, accuracies = zip(*found["trials"], strict=True)
        spent[name] = sum(epochs)
        print(
            f"{name:8} {samples:3} trials {spent[name]:4} epochs, best accuracy {max(accuracies):.4f}, "
            f"total {found['total']:6.1f} s",
            flush=True,
        )
    print(f"share of the epochs that ASHA trains: {spent['asha'] / spent['fifo']:.2f}")


def show_flat(samples: int) -> None:
    """Prints the time per trial and the memory, block by block."""
    found = run("trivial", samples)
    before, each = 0.0, []
    for number, (at, driver, process) in enumerate(found["points"], 1):
        each.append(1e3 * (at - before) / found["block"])
        before = at
        print(
            f"{number * found['block']:6} trials: {each[-1]:6.0f} ms per trial, "
            f"driver {driver:6.0f} MiB, trial process {process:6.0f} MiB"
        )
    if len(each) > 2:  # the first block pays for the start of the trials' processes
        first, last = found["points"][1], found["points"][-1]
        print(
            f"last block to second: time {each[-1] / each[1]:.2f}, driver's memory {last[1] / first[1]:.2f}, "
            f"trial process's {last[2] / first[2]:.2f}"
        )


def main() -> None:
    """Runs the selected sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--nested-trials", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--asha", action="store_true", help="also compare ASHA with training all trials to their end")
    parser.add_argument("--asha-trials", type=int, default=16)
    parser.add_argument("--flat", type=int, default=0, metavar="N", help="also run N nearly empty trials")
    parser.add_argument("--only", action="store_true", help="run only the selected sections")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.trials)
        return
    if not arguments.only:
        compare(arguments.trials, arguments.nested_trials, arguments.repeats)
    if arguments.asha:
        compare_schedulers(arguments.asha_trials)
    if arguments.flat:
        show_flat(arguments.flat)


if __name__ == "__main__":
    main()
