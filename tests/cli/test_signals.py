import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import children

LOCAL = ("--local",)


class Training:
    """A training in a session of its own, as systemd, Slurm and `timeout` start it; it is inside an epoch."""

    def __init__(self, folder, *words, prefix=()):
        data = ["num_epochs=1000", "dataset.train.batchsize_per_replica=4"]
        command = [*prefix, sys.executable, "-m", "ray_classy", "train", os.path.abspath("configs/digits.yaml"), *data]
        self.run = folder / "runs" / "r"
        self.process = subprocess.Popen(
            [*command, "--name", "r", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        began = time.monotonic()
        while not (self.run / "log.txt").exists():
            assert self.process.poll() is None and time.monotonic() < began + 200
            time.sleep(0.1)
        self.start_seconds = time.monotonic() - began
        time.sleep(1)

    def stopped_by(self, number):
        """Whether it left all that a stopped run must leave, and soon: a start, with its imports, takes longer."""
        began = time.monotonic()
        _, err = self.process.communicate(timeout=200)
        facts = json.loads((self.run / "run.json").read_text())
        assert self.process.returncode == 128 + number and facts["status"] == "interrupted", err
        assert any(re.fullmatch(r"epoch_\d{4}-step_\d{6}", name) for name in os.listdir(self.run))
        assert "resume with: ray-classy train --resume runs/r" in err
        assert "resume with: ray-classy train --resume runs/r" in (self.run / "log.txt").read_text()
        return time.monotonic() - began < self.start_seconds + 10


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.full)])
def test_a_signal_to_the_process_group_leaves_a_checkpoint_and_the_command_that_resumes(tmp_path, number):
    training = Training(tmp_path, *LOCAL)
    os.killpg(training.process.pid, number)
    assert training.stopped_by(number)


@pytest.mark.full
def test_the_second_signal_ends_at_once(tmp_path):
    training = Training(tmp_path, *LOCAL, "dataset.train.batchsize_per_replica=1437")
    os.killpg(training.process.pid, signal.SIGTERM)
    time.sleep(1.5)
    os.killpg(training.process.pid, signal.SIGTERM)
    assert training.process.wait(5) in (-signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.mark.full
def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path):
    training = Training(tmp_path, *LOCAL, prefix=["nohup"])
    os.killpg(training.process.pid, signal.SIGHUP)
    time.sleep(2)
    assert training.process.poll() is None
    os.killpg(training.process.pid, signal.SIGTERM)
    assert training.stopped_by(signal.SIGTERM)


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize(("number", "whom"), [(signal.SIGHUP, "group"), (signal.SIGTERM, "all")])
def test_a_signal_to_all_processes_of_a_local_ray_leaves_a_checkpoint(tmp_path, number, whom):
    training = Training(tmp_path)
    below = children(training.process.pid)
    if whom == "group":
        os.killpg(training.process.pid, number)
    else:  # as Slurm and systemd signal all processes of a job
        for process in below:
            os.kill(process, number)
    assert training.stopped_by(number)
    end = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{process}") for process in below):
        assert time.monotonic() < end
        time.sleep(0.1)
