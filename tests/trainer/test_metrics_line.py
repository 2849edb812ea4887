import json

import numpy as np
import pytest
import torch

from ray_classy.tasks.metrics import dotted, phase_metrics, plain
from ray_classy.trainer.run_metrics import latest_by_phase_type
from tests.helpers import make_task, train


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor(1.5), 1.5),
        (torch.tensor([1, 2]), [1, 2]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array([1.0, 2.0]), [1.0, 2.0]),
        ((1, np.float64(2)), [1, 2.0]),
        ({1: {"a": torch.tensor(True)}}, {"1": {"a": True}}),
        ("text", "text"),
        (None, None),
    ],
)
def test_plain(value, expected):
    assert plain(value) == expected and json.loads(json.dumps(plain(value))) == expected
    assert type(plain(value)) is type(expected)


def test_dotted():
    assert dotted({"test": {"accuracy": {"top_1": 0.5}}, "loss": 1}) == {"test.accuracy.top_1": 0.5, "loss": 1}


def test_metrics_of_a_phase():
    task = train(make_task())
    metrics = task.phase_metrics()
    assert metrics == {"loss": task.losses.row_mean(), "accuracy": task.meters[0].value}


def test_metrics_of_plain_losses():
    assert phase_metrics([1.0, 2.0], []) == {"loss": 1.5} and phase_metrics((), ()) == {}


def test_last_phase_of_each_type():
    lines = [{"phase_type": kind, "metrics": number} for number, kind in enumerate(["train", "test", "train"])]
    assert latest_by_phase_type(lines) == {"train": 2, "test": 1}
