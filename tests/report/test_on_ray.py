"""Runs and sweeps on Ray end with a report where their config asks for one."""

import os

import pytest

from ray_classy.tasks import build_task
from ray_classy.trainer import RayTrainer
from ray_classy.tune import TaskTuner
from tests.report.conftest import config, image_folder
from tests.tune.sweeps import sweep_config

pytestmark = [pytest.mark.ray, pytest.mark.full]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_a_run_on_two_workers_ends_with_a_report_that_counts_both(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    task = build_task(config(image_folder(tmp_path / "images", "ab"), 2, report=True))
    result = RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path), name="r").train(task)
    html = read(f"{result.path}/report.html")
    assert "on 2 workers (cpu)" in html and '<span class="state finished">' in html


def test_a_sweep_ends_with_a_report_and_its_trials_have_none(ray_cluster, tmp_path):
    trainer = RayTrainer(storage_path=str(tmp_path), name="sweep")
    result = TaskTuner({**sweep_config(), "report": True}, trainer=trainer, progress=False).fit()
    html = read(f"{result.path}/report.html")
    assert f"of the best trial, {result.best.name}" in html and "best.yaml, ready to be trained" in html
    assert not any(os.path.exists(f"{result.path}/{trial.name}/report.html") for trial in result.trials)
