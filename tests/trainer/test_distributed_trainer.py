import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from ray_classy.distributed import is_initialized
from ray_classy.errors import ResourceError
from ray_classy.trainer import DistributedTrainer, LocalTrainer
from tests.helpers import children, free_port, make_task
from tests.trainer import torchrun_script


def test_torchrun_of_two_ends_as_one_process(tmp_path):
    process = torchrun(torchrun_script.__file__, str(tmp_path), stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    task = torchrun_script.build(str(tmp_path), 6)
    alone = LocalTrainer(str(tmp_path), "alone").train(task)
    expected = torch.cat([value.flatten() for value in task.base_model.state_dict().values()]).tolist()
    for rank in ranks:
        assert rank["weights"] == pytest.approx(expected, rel=0, abs=1e-12)
        assert rank["metrics"]["test"]["accuracy"] == alone.metrics["test"]["accuracy"]
        assert rank["metrics"]["test"]["loss"] == pytest.approx(alone.metrics["test"]["loss"], abs=1e-9)
        assert rank["checkpoint"] == str(tmp_path / "run" / "epoch_0002-step_000008")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_one_run_in_each_of_several_processes_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with pytest.raises(ResourceError, match=rf"one of 2 processes \({name}\).*DistributedTrainer"):
        LocalTrainer(str(tmp_path), "r").train(make_task())
    assert not os.listdir(tmp_path)


def torchrun(*words, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.Popen([*command, str(free_port()), *words], env=environment, text=True, **options)


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_torchrun_leaves_a_checkpoint(tmp_path, number):
    process = torchrun(torchrun_script.__file__, str(tmp_path), "slow", stderr=subprocess.PIPE, start_new_session=True)
    while not (tmp_path / "run" / "log.txt").exists():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    for rank in children(process.pid):
        os.kill(rank, number)
    _, err = process.communicate(timeout=60)
    assert '"status": "interrupted"' in (tmp_path / "run" / "run.json").read_text(), err
    assert [(tmp_path / f"exit{rank}").read_text() for rank in range(2)] == [str(128 + number)] * 2
    assert any(name.startswith("epoch_0000-") for name in os.listdir(tmp_path / "run"))


def test_one_process_without_torchrun(tmp_path, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    result = DistributedTrainer(str(tmp_path), "r").train(make_task())
    assert result.metrics["test"]["loss"] > 0 and not is_initialized()
