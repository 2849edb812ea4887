"""Records the runs that tests/test_recorded_runs.py resumes: `python -m tests.data.record [FOLDER]` (about 2 minutes).

A recording is made once and kept, for it shows that a newer version still reads what an older one wrote. Give a folder
to look at what the present version would record; without one, tests/data/recorded is replaced.

finished, interrupted    the same config, in one process; the second was interrupted by Ctrl-C inside its second epoch
sweep                    a sweep whose driver was killed; sweep.json has the result of the same sweep without a kill
ddp, zero, fsdp          one epoch on two processes with this strategy
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import yaml

from ray_classy.tasks import build_task
from ray_classy.trainer import DistributedTrainer
from tests.helpers import run_ranks

RECORDED = pathlib.Path(__file__).parent / "recorded"
STRATEGIES = ("ddp", "zero", "fsdp")
_WHERE, _HOST = "/recorded", "recorder"


def config(epochs, train_rows, batch, lr, **sections):
    """Trains a small network on a part of the digits."""
    rows = {"train": train_rows, "test": 100}
    datasets = {
        phase_type: {
            "name": "digits",
            "split": phase_type,
            "batchsize_per_replica": batch,
            "use_shuffle": phase_type == "train",
            "num_samples": rows[phase_type],
        }
        for phase_type in rows
    }
    schedule = {"name": "cosine", "start_value": lr, "end_value": 0.0}
    return {
        "name": "classification_task",
        "num_epochs": epochs,
        "seed": 3,
        "dataset": datasets,
        "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [12], "dropout": 0.1},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "momentum": 0.9, "param_schedulers": {"lr": schedule}},
        **sections,
    }


def program(folder, *words):
    """Starts `ray-classy` in a process group of its own."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "ray_classy", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, start_new_session=True)


def completed(folder, *words):
    """What a command prints, once it has succeeded."""
    process = program(folder, *words)
    out, _ = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"{words} failed with {process.returncode}")
    return out


def wait_for(happened, process, seconds=120):
    """Waits until `happened()` is true, while the process lives."""
    until = time.monotonic() + seconds
    while not happened():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the process ended, or took too long")
        time.sleep(0.02)


def record_runs(folder):
    """A run that ends, and the same run interrupted inside an epoch."""
    values = config(3, 1437, 4, 0.05, ray={"num_to_keep": 2})
    (folder / "run.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    completed(folder, "train", "run.yaml", "--local", "--name", "finished")
    process = program(folder, "train", "run.yaml", "--local", "--name", "interrupted")
    metrics = folder / "runs" / "interrupted" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") == 2, process)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    names = sorted(path.name for path in metrics.parent.glob("epoch_*"))
    manifest = json.loads((metrics.parent / names[-1] / "manifest.json").read_text())
    if process.returncode != 130 or manifest["in_phase"] is None:
        raise RuntimeError(f"not interrupted inside an epoch: {names}")


def record_sweep(folder):
    """A sweep that is killed when one of its trials has ended and another has reported."""
    search = {"search": "loguniform", "lower": 0.003, "upper": 0.05}
    section = {"metric": "test.accuracy.top_1", "num_samples": 4}
    values = config(6, 1437, 4, search, tune=section, ray={"num_to_keep": 1})
    (folder / "sweep.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    answer = json.loads(completed(folder, "tune", "sweep.yaml", "--name", "uninterrupted", "--json"))
    trials = [{key: trial[key] for key in ("trial", "params", "metrics", "state")} for trial in answer["trials"]]
    (folder / "runs" / "sweep.json").write_text(json.dumps(trials, indent=1) + "\n")

    process = program(folder, "tune", "sweep.yaml", "--name", "sweep")
    sweep = folder / "runs" / "sweep"

    def in_the_middle():
        states = {path.parent: json.loads(path.read_text())["state"] for path in sweep.glob("t*/trial.json")}
        reports = [trial / "reports.jsonl" for trial, state in states.items() if state == "running"]
        begun = [file.read_text().count("\n") for file in reports if file.exists()]
        return len(reports) < len(states) and any(0 < lines < 3 for lines in begun)

    wait_for(in_the_middle, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shutil.rmtree(sweep / "ray")  # begun again at each start
    shutil.rmtree(folder / "runs" / "uninterrupted")


def train_on_rank(folder, strategy):
    """Trains with a strategy, on each rank."""
    values = config(2, 320, 16, 0.1, distributed={"strategy": strategy})
    values["ray"] = {"num_to_keep": 1}
    DistributedTrainer(folder, strategy).train(build_task(values))


def clean(folder, path):
    """Takes what is particular to this machine out of the text files of a run."""
    for file in [*path.rglob("*.json"), *path.rglob("*.txt"), *path.rglob("*.jsonl")]:
        text = file.read_text().replace(str(folder), _WHERE)
        if file.name in ("run.json", "lease.json"):
            values = json.loads(text)
            for start in values.get("starts", []):
                start.update({"cwd": _WHERE, "host": _HOST})
                start["command"] = ["ray-classy", *start["command"][1:]]
            values.update({"host": _HOST} if "host" in values else {})
            text = json.dumps(values, indent=2) + "\n"
        file.write_text(text)


def record(target):
    """Makes all recordings in a folder, in place of those that are there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary).resolve()
        (folder / "runs").mkdir()
        record_runs(folder)
        record_sweep(folder)
        for strategy in STRATEGIES:
            run_ranks(2, train_on_rank, str(folder / "runs"), strategy)
        clean(folder, folder / "runs")
        for file in [path for path in (folder / "runs").rglob("*") if path.is_file()]:
            for text in (str(folder), os.getcwd(), sys.prefix):
                if text.encode() in file.read_bytes():
                    raise RuntimeError(f"{file} has {text!r} in it")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "runs", target, symlinks=True)


if __name__ == "__main__":
    record(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED)
