"""Tasks that tests of the strategies train, and what they compare."""

import hashlib

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ray_classy.distributed import get_rank
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer
from tests.helpers import make_task

DOUBLE = torch.float64
STRATEGIES = ("ddp", "zero", "fsdp")
SHARDED = STRATEGIES[1:]
ADAMW = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


def wide_model(dtype=DOUBLE, batch_norm=True, depth=1):
    """A model with one layer that is sharded by itself, and some that are not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3 + get_rank())  # ranks begin with the first one's weights, whatever theirs are
        layers = [nn.Linear(6, 257), nn.BatchNorm1d(257) if batch_norm else nn.Identity(), nn.ReLU()]
        layers += [layer for _ in range(depth) for layer in (nn.Linear(257, 257), nn.ReLU())]
        layers += [nn.Linear(257, 4)]
        return ClassyModel.from_model(nn.Sequential(*layers).to(dtype), input_shape=(6,))


def wide_task(strategy, optimizer=SGD, batch_norm=True, model=None, **options):
    # 7 test rows in batches of 3: two steps on one rank, one on the other
    options = {"train": 22, "test": 7, "batch": 3, "dtype": DOUBLE, "epochs": 2, "shuffle": True, **options}
    task = make_task(**options).set_model(model or wide_model(batch_norm=batch_norm))
    task.set_optimizer(build_optimizer(optimizer))
    return task.set_distributed_options(strategy=strategy)


def outcome(task):
    state = task.get_classy_state()
    flat = torch.cat([value.flatten().double() for value in task.base_model.state_dict().values()])
    entries = state["optimizer"]["optim"]["state"]
    return {
        "weights": flat[::31].tolist(),
        "bits": hashlib.sha256(flat.numpy().tobytes()).hexdigest(),
        "optimizer": {number: _sums(entry) for number, entry in entries.items()},
        "losses": list(task.losses),
        "loss": task.losses.row_mean(),
        "counts": task.meters[0]._total.tolist(),
    }


def _sums(entry):
    return {name: float(value.double().pow(2).sum()) for name, value in entry.items() if value is not None}


def local_numbers(tensors):
    return sum((value.to_local() if isinstance(value, DTensor) else value).numel() for value in tensors)


def assert_same(outcome, other):
    assert outcome["weights"] == pytest.approx(other["weights"], rel=0, abs=1e-9)
    assert outcome["loss"] == pytest.approx(other["loss"], rel=0, abs=1e-9)
    assert outcome["counts"] == other["counts"]
    assert outcome["optimizer"].keys() == other["optimizer"].keys()
    for number, entry in outcome["optimizer"].items():
        assert entry == pytest.approx(other["optimizer"][number], rel=1e-6)
