"""Kills the processes of a run all the time and compares its result with that of an uninterrupted run.

    python benchmarks/soak.py [--epochs 60] [--seconds 12] [--seed 0] [--quick]

A small model trains on two Ray workers. Every few seconds, at random, a worker, all workers or the driver is killed
with SIGKILL; a killed driver is started again with `resume`. Every worker records the rows that it trains. The report
has the kills; in how many epochs each row was trained once (not counting rows that were trained again because they came
after the last checkpoint); whether the final weights equal those of an uninterrupted run, bit for bit; and how the
memory of driver and workers grew during their lifetime.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.distributed import broadcast_object, get_rank, is_primary
from ray_classy.hooks import ClassyHook
from ray_classy.tasks import build_task

ROWS, BATCH, WORKERS = 1000, 25, 2
VICTIMS = {"worker": 0.6, "all workers": 0.2, "driver": 0.2}
WORKER = "ray::RayTrainWorker"
SETTLED_SECONDS = 40.0
LIMIT_SECONDS = 3600.0


class WriteRows(ClassyHook):
    """Records the rows that this rank trains, in one file per attempt, and slows each step down."""

    on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, folder: str, pause: float) -> None:
        super().__init__()
        self.folder, self.pause, self.path = folder, pause, ""

    def on_start(self, task: Any) -> None:
        attempt = broadcast_object(time.time_ns() if is_primary() else None)
        self.path = os.path.join(self.folder, f"{attempt}-{task.num_train_steps}-{get_rank()}.jsonl")

    def on_step(self, task: Any) -> None:
        if not task.train:
            return
        time.sleep(self.pause)
        ids = task.last_batch.sample["id"][: task.data_iterator.share.rows].tolist()
        with open(self.path, "a") as file:
            file.write(json.dumps([task.train_phase_idx, task.num_train_steps, ids]) + "\n")


def decode(row: dict[str, Any]) -> dict[str, Any]:
    """Derives sixteen numbers that reveal the class from the number of the row."""
    values = torch.randn(16, generator=torch.Generator().manual_seed(row["id"]))
    return {"input": values, "target": int(values[:8].sum() > 0), "id": row["id"]}


def a_task(epochs: int, folder: str, pause: float) -> Any:
    """Builds the task, with dropout and momentum so that every kind of state matters."""
    from ray_classy.dataset import ClassyDataset
    from ray_classy.dataset.row_dataset import RowDataset
    from ray_classy.dataset.rows import ItemRows

    task = build_task(
        {
            "name": "classification_task",
            "num_epochs": epochs,
            "checkpoint_every": {"steps": 10},
            "dataset": {"train": {"name": "digits", "split": "train", "batchsize_per_replica": 1, "use_shuffle": True}},
            "model": {"name": "mlp", "input_dim": 16, "output_dim": 2, "hidden_dims": [32], "dropout": 0.1},
            "loss": {"name": "CrossEntropyLoss"},
            "meters": {"accuracy": {"topk": [1]}},
            "optimizer": {
                "name": "sgd",
                "momentum": 0.9,
                "param_schedulers": {"lr": {"name": "cosine", "start_value": 0.1, "end_value": 0.0}},
            },
        }
    )
    for phase_type in ("train", "test"):
        rows = ItemRows(id=list(range(ROWS) if phase_type == "train" else range(ROWS, ROWS + 200)))
        task.set_dataset(ClassyDataset(RowDataset(rows, decode), BATCH, phase_type == "train"), phase_type)
    return task.set_hooks([WriteRows(folder, pause)])


def drive(folder: Path, name: str, epochs: int, pause: float) -> None:
    """Starts or resumes the run; this is the main function of the driver."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from ray_classy.trainer import RayTrainer

    place: dict[str, Any] = {"storage_path": str(folder / "runs"), "name": name}
    if (folder / "runs" / name / "run.json").exists():
        place = {"resume": str(folder / "runs" / name)}
    (folder / name).mkdir(exist_ok=True)
    config = RunConfig(failure_config=FailureConfig(max_failures=-1))
    RayTrainer(ScalingConfig(num_workers=WORKERS), config, **place).train(a_task(epochs, str(folder / name), pause))


def started(folder: Path, name: str, epochs: int, pause: float) -> subprocess.Popen:
    """Starts a driver in a separate process and session."""
    command = [sys.executable, os.path.abspath(__file__), "--drive", str(folder), name, str(epochs), str(pause)]
    with open(folder / f"{name}.log", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def family(root: int) -> dict[int, str]:
    """The titles of a process and of all its descendants."""
    parents, titles = {}, {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            titles[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    below = {root}
    for _ in range(8):
        below |= {pid for pid, parent in parents.items() if parent in below}
    return {pid: titles[pid] for pid in below if pid in titles}


def roles(root: int) -> dict[str, list[int]]:
    """The processes of a run by role."""
    return {"worker": [pid for pid, title in family(root).items() if title.startswith(WORKER)], "driver": [root]}


class Memory:
    """The memory of the processes of each role over their lifetime."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)

    def look(self, root: int) -> None:
        """Samples every process once."""
        for role, pids in roles(root).items():
            for pid in pids:
                try:
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except (OSError, IndexError):
                    continue
                if pages:  # none: it has just ended
                    self.samples[role, pid].append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def growth(self, role: str) -> str:
        """Describes the growth of the longest-lived process of a role, from the end of its start-up to its end."""
        lives = [samples for (one, _), samples in self.samples.items() if one == role and len(samples) > 1]
        longest = max(lives, key=lambda samples: samples[-1][0] - samples[0][0], default=[])
        settled = [size for at, size in longest if at - longest[0][0] >= SETTLED_SECONDS]
        if len(settled) < 2:
            return "none lived long enough to tell"
        seconds = longest[-1][0] - longest[0][0] - SETTLED_SECONDS
        return f"{settled[0]:.0f} to {settled[-1]:.0f} MiB in {seconds:.0f} s"


def survivors(folder: Path) -> dict[int, list[int]]:
    """The rows of each epoch that contributed to the final weights."""
    attempts: dict[int, list[Path]] = defaultdict(list)
    for path in folder.glob("*.jsonl"):
        attempts[int(path.name.split("-")[0])].append(path)
    order = sorted(attempts)
    begins = [int(attempts[attempt][0].name.split("-")[1]) for attempt in order]
    rows: dict[int, list[int]] = defaultdict(list)
    for position, attempt in enumerate(order):
        until = min(begins[position + 1 :], default=10**9)
        for path in attempts[attempt]:
            for line in path.read_text().splitlines():
                try:
                    epoch, step, ids = json.loads(line)
                except ValueError:  # cut off by a kill, and done again
                    continue
                if step <= until:
                    rows[epoch] += ids
    return rows


def trains(folder: Path) -> bool:
    """Whether the workers have just recorded rows."""
    return any(time.time() - path.stat().st_mtime < 0.5 for path in folder.glob("*.jsonl"))


def disturbed(folder: Path, arguments: argparse.Namespace) -> tuple[dict[str, int], Memory]:
    """Runs training with kills and returns how often each kind of process was killed."""
    chance, kills, memory = random.Random(arguments.seed), dict.fromkeys(VICTIMS, 0), Memory()
    driver = started(folder, "disturbed", arguments.epochs, arguments.pause)
    began, strike = time.monotonic(), None
    while driver.poll() is None:
        time.sleep(0.5)
        memory.look(driver.pid)
        now, running = time.monotonic(), roles(driver.pid)
        if now - began > LIMIT_SECONDS:
            os.killpg(driver.pid, signal.SIGKILL)
            raise SystemExit(f"the run has not ended within {LIMIT_SECONDS:.0f} s; see {folder}")
        if len(running["worker"]) < WORKERS:
            strike = None
        elif strike is None and trains(folder / "disturbed"):
            strike = now + chance.uniform(0.3, 1.7) * arguments.seconds
        elif strike is not None and now >= strike:
            (kind,) = chance.choices(list(VICTIMS), list(VICTIMS.values()))
            victims = {"worker": [chance.choice(running["worker"])], "all workers": running["worker"]}
            for pid in victims.get(kind) or running[kind]:
                os.kill(pid, signal.SIGKILL)
            kills[kind] += 1
            strike = None
            print(f"{now - began:6.0f} s  killed: {kind}", flush=True)
            if kind == "driver":
                driver.wait()
                driver = started(folder, "disturbed", arguments.epochs, arguments.pause)
    if driver.returncode:
        raise SystemExit(f"the run failed; see {folder}/disturbed.log")
    return kills, memory


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The final weights of a run."""
    state = load_checkpoint(str(folder / "runs" / name / "last"))["classy_state_dict"]
    return state["base_model"]["model"]["trunk"]


def tested(folder: Path, name: str) -> float:
    """The accuracy of a run's last test phase."""
    lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["metrics"]["accuracy"]["top_1"]


def main() -> None:
    """Runs training with and without kills, and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=12.0, help="seconds of training between kills")
    parser.add_argument("--pause", type=float, default=0.08, help="seconds added to each step")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills")
    parser.add_argument("--quick", action="store_true", help="a minute or two, to check that it runs")
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(Path(arguments.drive[0]), arguments.drive[1], int(arguments.drive[2]), float(arguments.drive[3]))
        return
    if arguments.quick:
        arguments.epochs, arguments.seconds = 20, 5.0
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    calm = started(folder, "calm", arguments.epochs, 0.0)
    if calm.wait():
        raise SystemExit(f"the uninterrupted run failed; see {folder}/calm.log")
    began = time.monotonic()
    kills, memory = disturbed(folder, arguments)
    rows = survivors(folder / "disturbed")
    exact = sum(sorted(ids) == list(range(ROWS)) for ids in rows.values())
    ours, theirs = weights(folder, "disturbed"), weights(folder, "calm")
    equal = all(torch.equal(value, theirs[name]) for name, value in ours.items())
    print(f"kills survived in {time.monotonic() - began:.0f} s: {sum(kills.values())} ({kills})")
    print(f"epochs in which each of {ROWS} rows was trained once: {exact} of {arguments.epochs}")
    print(f"final test accuracy: {tested(folder, 'disturbed'):.4f}, uninterrupted {tested(folder, 'calm'):.4f}")
    print(f"final weights equal to those of the uninterrupted run, bit for bit: {equal}")
    for role in ("driver", "worker"):
        print(f"memory of the longest-lived {role}: {memory.growth(role)}")
    if exact != arguments.epochs or not equal:
        raise SystemExit(f"the run was not what it should have been; see {folder}")


if __name__ == "__main__":
    main()
