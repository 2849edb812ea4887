"""Measures the CPU time that short commands cost beyond `import torch`.

    python benchmarks/commands.py [--repeats 5]

Each command runs in a process of its own that has imported torch; user and system time of the command are counted.
Fails if a median is above 0.5 s.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

MOST_SECONDS = 0.5
CONFIG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "configs", "digits.yaml")
RUN = """
import sys
from ray_classy.cli.main import main
main(["train", sys.argv[1], "--local", "num_epochs=1", "--name", "run", "--storage-path", sys.argv[2]])
"""
MEASURE = """
import sys, time
import torch
began = time.process_time()
from ray_classy.cli.main import main
main(sys.argv[1:])
print(time.process_time() - began)
"""


def cpu_seconds(words: list[str]) -> float:
    """Runs a command in a new process and returns its CPU time."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *words], capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as storage:
        subprocess.run([sys.executable, "-c", RUN, CONFIG, storage], check=True, capture_output=True)
        commands = {
            "list": ["list"],
            "list model": ["list", "model"],
            "ls RUN": ["ls", f"{storage}/run"],
            "show RUN": ["show", f"{storage}/run"],
            "check CONFIG, with a typo": ["check", CONFIG, "optimizer.momentun=0.5"],
            "train CONFIG, with a typo": ["train", CONFIG, "optimizer.momentun=0.5"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, words in commands.items():
                times[name].append(cpu_seconds(words))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:28} {median:5.2f} s CPU beyond import torch")
    if max(medians.values()) > MOST_SECONDS:
        raise SystemExit(f"more than {MOST_SECONDS} s")


if __name__ == "__main__":
    main()
