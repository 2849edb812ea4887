"""Measures how long it takes from a command to the first training step, in parts, against scripts that do the same.

    python benchmarks/startup.py [--repeats 3] [--what check local ray]

- `check`: CPU time of `ray-classy check`, against that of importing torch, and torch and torchvision.
- `local`: from the command to the end of the first step in one process, against a script with torch's DataLoader.
- `ray`: from the program's start to the end of the first step, and of the run, on two workers of a local Ray, against a
  `TorchTrainer` with Ray's defaults and with two settings that ours has too. All train the same network on the same
  rows for one short epoch.

Each variant runs in a separate process, in turn. The parts of a run on Ray are read from the start times of its
processes, which Linux records.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

CONFIG = "configs/digits.yaml"
SHORT = ["num_epochs=1", "dataset.train.num_samples=64", "hooks=[]"]

COMMON = """
import io, json, os, sys, time
import pyarrow.parquet as parquet
import torch
from PIL import Image
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.transforms import v2

class Digits(torch.utils.data.Dataset):
    def __init__(self):
        table = parquet.read_table("ray_classy/data/digits_train.parquet").to_pydict()
        self.rows = list(zip(*table.values()))[:64]
        self.transform = v2.Compose([v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1)), v2.ToTensor()])
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, index):
        image, label = self.rows[index]
        image = image["bytes"] if isinstance(image, dict) else image
        return self.transform(Image.open(io.BytesIO(image)).convert("RGB")), int(label)

def network():
    down = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), BasicBlock(16, 16)]
    return nn.Sequential(*stem, BasicBlock(16, 32, 2, down), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

def train(model, loader, first_step):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    for inputs, target in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()
        first_step()
        first_step = lambda: None
"""

PLAIN = """
import warnings; warnings.simplefilter("ignore")
def first_step():
    print("stamps", json.dumps({"step": time.time()}), flush=True)
torch.set_num_threads(1)
train(network(), torch.utils.data.DataLoader(Digits(), 32, shuffle=True), first_step)
"""

LOCAL = """
import json, os, time
from ray_classy.cli.main import main
from ray_classy.hooks import ClassyHook, register_hook

@register_hook("first_step")
class FirstStep(ClassyHook):
    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop
    seen = False
    def on_step(self, task):
        if not self.seen:
            print("stamps", json.dumps({{"step": time.time()}}), flush=True)
        self.seen = True

main(["train", "{config}", "--local", "--storage-path", "{storage}", {words}, "hooks=[{{name: first_step}}]"])
"""

STAMPS = """
import json, os, time

def started(process):
    with open(f"/proc/{process}/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/stat") as file:
        booted = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    return booted + ticks / os.sysconf("SC_CLK_TCK")

def stamp(file, **times):
    with open(file, "a") as out:
        out.write(json.dumps(times) + "\\n")

def function_began(file):
    stamp(file, worker=started(os.getpid()), function=time.time())
"""

BARE = """
import os, time
os.environ.update({settings})
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
def loop():
    exec({stamps!r}, globals())
    if ray.train.get_context().get_world_rank() == 0:
        function_began("{file}")
    os.chdir("{cwd}")
    exec({common!r}, globals())
    from ray.train.torch import prepare_data_loader, prepare_model
    torch.set_num_threads(1)
    loader = prepare_data_loader(torch.utils.data.DataLoader(Digits(), 32, shuffle=True))
    train(prepare_model(network()), loader, lambda: stamp("{file}", step=time.time()))
imported = time.time()
ray.init("local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
connected = time.time()
TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=2), run_config=RunConfig(storage_path="{storage}")).fit()
exec({stamps!r})
stamp("{file}", imported=imported, connected=connected, ended=time.time())
"""

OURS = """
import time
exec({stamps!r})
import ray
from ray.train import ScalingConfig
from ray_classy.config import apply_overrides, load_config
from ray_classy.hooks import ClassyHook
from ray_classy.tasks import build_task
from ray_classy.trainer import RayTrainer

class Stamps(ClassyHook):
    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop
    def __init__(self):
        super().__init__()
        self.file = "{file}"
    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.environ.get("RANK") == "0":
            function_began(self.file)
    def on_step(self, task):
        if task.train and len(task.losses) == 1:
            stamp(self.file, step=time.time())

task = build_task(apply_overrides(load_config("{config}"), {words}))
task.set_hooks([Stamps()])
imported = time.time()
ray.init("local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
connected = time.time()
RayTrainer(ScalingConfig(num_workers=2), storage_path="{storage}").train(task)
stamp("{file}", imported=imported, connected=connected, ended=time.time())
"""

SETTINGS = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}

PARTS = {
    "imports, config": ("began", "imported"),
    "ray.init": ("imported", "connected"),
    "checks, controller": ("connected", "worker"),
    "worker, process group": ("worker", "function"),
    "data, model, first step": ("function", "step"),
    "rest of the run": ("step", "ended"),
}
"""Maps a part to the stamps between which it lies. (A worker may get a process that Ray has started beforehand.)"""


def run(program: str, *words: str) -> tuple[str, float, float, float]:
    """Runs a program; returns what it prints, when it was started, and the seconds it took and its CPU time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.time() - began
    return done.stdout, began, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_turn(ways: dict[str, Callable[[], dict[str, float]]], repeats: int) -> dict[str, dict[str, float]]:
    """Runs each variant as often as asked for, in turn, and returns the medians of what each measures."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            measured[name].append(way())
    return {
        name: {part: statistics.median(one[part] for one in each) for part in each[0]}
        for name, each in measured.items()
    }


def check(repeats: int) -> None:
    """Prints the CPU time of `ray-classy check`."""
    main = "import sys; from ray_classy.cli.main import main; sys.exit(main())"
    plain = ["model={name: mlp, input_dim: 192, output_dim: 10, hidden_dims: [32]}", "dataset.train.transforms=null"]
    ways = {
        "import torch": ["import torch"],
        "import torch, torchvision": ["import torch, torchvision"],
        "check, without torchvision's parts": [main, "check", CONFIG, *plain, "dataset.test.transforms=null"],
        "check": [main, "check", CONFIG],
    }
    medians = in_turn({name: lambda words=words: {"CPU": run(*words)[3]} for name, words in ways.items()}, repeats)
    print("\ncheck: seconds of CPU time")
    for name, one in medians.items():
        print(f"{name:36}{one['CPU']:8.2f}")


def first_step_of(program: str) -> dict[str, float]:
    """Seconds from the start of a program to its first step, and the CPU time of the whole program."""
    printed, began, _, cpu = run(program)
    stamps = json.loads(printed.split("stamps ", 1)[1].splitlines()[0])
    return {"first step": stamps["step"] - began, "CPU": cpu}


def local(repeats: int, storage: str) -> None:
    """Prints the time to the first step in one process."""
    words = ", ".join(repr(word) for word in SHORT[:2])
    ours = LOCAL.format(config=CONFIG, storage=storage, words=words)
    ways = {"script": lambda: first_step_of(COMMON + PLAIN), "train --local": lambda: first_step_of(ours)}
    medians = in_turn(ways, repeats)
    print("\nlocal: seconds to the end of the first step, and CPU time of the whole short run")
    for name, one in medians.items():
        print(f"{name:36}{one['first step']:8.2f}{one['CPU']:8.2f}")
    print(f"ratio {medians['train --local']['first step'] / medians['script']['first step']:.2f}")


def parts_of(program: str, storage: str, **values: object) -> dict[str, float]:
    """Seconds of the parts of a run on Ray."""
    with tempfile.NamedTemporaryFile(dir=storage, suffix=".jsonl") as file:
        filled = program.format(stamps=STAMPS, file=file.name, storage=storage, **values)
        began = run(filled)[1]
        stamps = {"began": began}
        for line in file.read().decode().splitlines():
            stamps = {**json.loads(line), **stamps}  # the first of each
    parts = {part: stamps[end] - stamps[start] for part, (start, end) in PARTS.items()}
    return {**parts, "first step": stamps["step"] - began, "whole": stamps["ended"] - began}


def on_ray(repeats: int, storage: str) -> None:
    """Prints the parts of a run on two workers."""
    bare = {"common": COMMON, "cwd": os.getcwd()}
    ways = {
        "Ray's defaults": lambda: parts_of(BARE, storage, settings={}, **bare),
        "two settings": lambda: parts_of(BARE, storage, settings=SETTINGS, **bare),
        "RayTrainer": lambda: parts_of(OURS, storage, config=CONFIG, words=SHORT),
    }
    medians = in_turn(ways, repeats)
    print(f"\nray: seconds\n{'':28}" + "".join(f"{name:>16}" for name in ways))
    for part in next(iter(medians.values())):
        print(f"{part:28}" + "".join(f"{one[part]:16.2f}" for one in medians.values()))
    ours = medians["RayTrainer"]
    for name in list(ways)[:2]:
        print(f"ratio to {name}: first step {ours['first step'] / medians[name]['first step']:.2f}, ", end="")
        print(f"whole {ours['whole'] / medians[name]['whole']:.2f}")


def main() -> None:
    """Prints the measurements that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--what", nargs="+", choices=("check", "local", "ray"), default=["check", "local", "ray"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        if "check" in options.what:
            check(options.repeats)
        if "local" in options.what:
            local(options.repeats, storage)
        if "ray" in options.what:
            on_ray(options.repeats, storage)


if __name__ == "__main__":
    main()
