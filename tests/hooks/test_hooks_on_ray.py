"""Hooks that write files, on two Ray workers."""

import csv

import pytest

from ray_classy.hooks import OutputCSVHook, PreciseBatchNormHook, build_hook
from ray_classy.trainer import LocalTrainer, RayTrainer
from tests.helpers import make_task

pytestmark = [pytest.mark.ray, pytest.mark.full]


def lines(folder):
    with open(folder / "predictions.csv", newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


def test_one_rank_writes_every_row_once(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    def task(folder):
        plots = {"name": "tensorboard_plot", "summary_writer": {"log_dir": str(folder / "tb")}}
        hooks = [OutputCSVHook(str(folder), "row"), build_hook(plots), PreciseBatchNormHook(16)]
        return make_task(test=11, epochs=2, batch_norm=True, hooks=hooks)

    pytest.importorskip("tensorboard")
    LocalTrainer(str(tmp_path / "runs"), "alone").train(task(tmp_path / "alone"))
    RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path / "runs")).train(task(tmp_path / "two"))
    alone, two = lines(tmp_path / "alone"), lines(tmp_path / "two")
    assert [(row[0], row[2]) for row in two] == [(row[0], row[2]) for row in alone] and len(two) == 1 + 2 * 11
    assert len(list((tmp_path / "two" / "tb").iterdir())) == 1
