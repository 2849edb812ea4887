"""Losses and learning rates of Classy Vision's runs, step by step; see tests/data/record_curves.py."""

import json

import pytest
import torch

from ray_classy.dataset.transforms.mixup import MixupTransform
from tests.data import record_curves

CURVES = json.loads((record_curves.CURVES / "curves.json").read_text())


def content(name):
    return torch.load(record_curves.CURVES / f"{name}.torch", weights_only=True)


def trained(task, **checkpoints):
    for kind, name in checkpoints.items():
        getattr(task, f"_set_{kind}_dict")(content(name))
    task.prepare()
    return record_curves.run(task)


def same(curve, expected):
    return [number for step in curve for number in step] == pytest.approx(
        [number for step in expected for number in step], rel=2e-5
    )


def test_sgd_with_momentum_a_step_schedule_and_batch_norm():
    task = record_curves.build("ray_classy", "resnext", None)
    assert same(trained(task, checkpoint="resnext_start"), CURVES["resnext"])


def test_a_checkpoint_with_momentum_continues():
    task = record_curves.build("ray_classy", "resnext", None)
    assert same(trained(task, checkpoint="resnext_middle"), CURVES["resnext"][8:])


def test_adamw_with_a_warm_up_a_cosine_mixup_clipping_and_accumulation(monkeypatch):
    lams = iter(record_curves.LAMS * 2)
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self, shape: torch.full(shape, next(lams)))
    task = record_curves.build("ray_classy", "mlp", MixupTransform(1.0, 4, label_smoothing=0.1))
    assert same(trained(task, checkpoint="mlp_start"), CURVES["mlp"])


def test_fine_tuning_with_a_frozen_trunk():
    task = record_curves.build("ray_classy", "frozen", None)
    record_curves.fill(task.base_model)
    assert same(trained(task, pretrained_checkpoint="resnext_middle"), CURVES["frozen"])
