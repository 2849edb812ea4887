import os

import pytest

from ray_classy.checkpoint import CheckpointEvery
from ray_classy.errors import ComponentError
from ray_classy.hooks import CheckpointHook
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task


def checkpoints(tmp_path, task):
    run = LocalTrainer(str(tmp_path), "r").train(task).path
    return [name for name in sorted(os.listdir(run)) if name.startswith("epoch_")]


def test_rounds_between_checkpoints_and_the_last_one(tmp_path):
    names = checkpoints(tmp_path, make_task(epochs=5).set_checkpoint_every(rounds=2))
    assert [name[:10] for name in names] == ["epoch_0002", "epoch_0004", "epoch_0005"]


def test_without_rounds_a_checkpoint_hook_says(tmp_path):
    hook = CheckpointHook(str(tmp_path / "published"), checkpoint_period=3)
    names = checkpoints(tmp_path, make_task(epochs=4, hooks=[hook]))
    assert [name[:10] for name in names] == ["epoch_0003", "epoch_0004"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"steps": 1.5},
        {"steps": True},
        {"minutes": 0},
        {"minutes": "5"},
        {"minutes": float("inf")},
        {"minutes": float("nan")},
    ],
)
def test_impossible_cadences(wrong):
    with pytest.raises(ComponentError, match=rf"checkpoint_every\.{next(iter(wrong))} must be"):
        CheckpointEvery(**wrong)
