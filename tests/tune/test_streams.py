"""Trials that read a Ray Data pipeline while it runs."""

import os

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import ResourceError
from ray_classy.trainer import RayTrainer
from ray_classy.tune import TaskTuner
from tests.tune.sweeps import sweep_config

pytestmark = [pytest.mark.ray, pytest.mark.full]


def trained(folder, name, *hooks):
    config = sweep_config(hooks=list(hooks), tune={"num_samples": 1})
    for section in config["dataset"].values():
        section["name"] = "streamed_digits"
    config["imports"].append("tests.tune.streams")
    config["ray"] = {"num_workers": 1, "max_failures": 1, "resources_per_worker": {"CPU": 1}}
    result = TaskTuner(config, trainer=RayTrainer(storage_path=str(folder), name=name), progress=False).fit()
    [record] = result.trials
    with open(os.path.join(result.path, record.name, "log.txt")) as file:
        log = file.read()
    state = load_checkpoint(result.checkpoint_of(record))["classy_state_dict"]["base_model"]["model"]["trunk"]
    return record, state, log


def test_each_trial_leaves_a_cpu_to_its_pipeline(ray_cluster, tmp_path, capsys):
    config = {**sweep_config(hooks=[], tune={"num_samples": 3}), "num_epochs": 1, "ray": {"num_workers": 1}}
    config["ray"]["resources_per_worker"] = {"CPU": 1}  # of 4, which would be taken
    config["imports"].append("tests.tune.streams")
    for section in config["dataset"].values():
        section["name"] = "streamed_digits"
    result = TaskTuner(config, trainer=RayTrainer(storage_path=str(tmp_path), name="sweep")).fit()
    assert [record.state for record in result.trials] == ["finished"] * 3
    assert "3 trials, 2 at a time" in "".join(capsys.readouterr())
    config["ray"]["resources_per_worker"] = {"CPU": 4}
    with pytest.raises(ResourceError, match="leave 0; the pipeline of the streamed test and train dataset"):
        TaskTuner(config, trainer=RayTrainer(storage_path=str(tmp_path), name="large")).fit()


def test_a_trial_that_dies_resumes_its_stream_at_the_beginning_of_the_epoch(ray_cluster, tmp_path):
    dies = {"name": "dies", "phase": 2, "how": "kill", "marker": str(tmp_path / "dead")}
    calm, weights, _ = trained(tmp_path, "calm")
    killed, others, log = trained(tmp_path, "killed", dies)
    assert (calm.state, killed.state, killed.epoch) == ("finished", "finished", 3) and "resuming from" in log
    assert calm.metrics == killed.metrics and all(torch.equal(weights[name], others[name]) for name in weights)
