import json
import os
import subprocess
import sys

import pytest
import torch

from ray_classy.distributed import is_initialized
from ray_classy.trainer import DistributedTrainer, LocalTrainer
from tests.helpers import free_port, make_task
from tests.trainer import torchrun_script


def test_torchrun_of_two_ends_as_one_process(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    ran = subprocess.run(
        [*command, torchrun_script.__file__, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    task = torchrun_script.build(str(tmp_path), 6)
    alone = LocalTrainer(str(tmp_path), "alone").train(task)
    expected = torch.cat([value.flatten() for value in task.base_model.state_dict().values()]).tolist()
    for rank in ranks:
        assert rank["weights"] == pytest.approx(expected, rel=0, abs=1e-12)
        assert rank["metrics"]["test"]["accuracy"] == alone.metrics["test"]["accuracy"]
        assert rank["metrics"]["test"]["loss"] == pytest.approx(alone.metrics["test"]["loss"], abs=1e-9)
        assert rank["checkpoint"] == str(tmp_path / "run" / "epoch_0002-step_000008")


def test_one_process_without_torchrun(tmp_path, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    result = DistributedTrainer(str(tmp_path), "r").train(make_task())
    assert result.metrics["test"]["loss"] > 0 and not is_initialized()
