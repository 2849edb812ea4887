"""A tiny config in a folder of its own, and the program run in this process."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ray_classy.cli.main import main

_CONFIG = """\
name: classification_task
num_epochs: 1
dataset:
  train: {name: digits, split: train, batchsize_per_replica: 32, use_shuffle: true, num_samples: 96}
  test: {name: digits, split: test, batchsize_per_replica: 64, use_shuffle: false, num_samples: 70}
model:
  name: mlp
  input_dim: 64
  output_dim: 10
  hidden_dims: [8]
loss: {name: CrossEntropyLoss}
meters: {accuracy: {topk: [1, 3]}}
optimizer:
  name: sgd
  param_schedulers:
    lr: {name: cosine, start_value: 0.1, end_value: 0.0}
ray:
  num_workers: 2
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    """The path of the config; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(_CONFIG)
    return "tiny.yaml"


@pytest.fixture
def ray_classy(capsys) -> Callable[..., Outcome]:
    """Runs the program with the given words."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(list(words))
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def local(ray_classy, config) -> Callable[..., Outcome]:
    """Runs `train CONFIG --local` and what else is given."""
    return lambda *words: ray_classy("train", config, "--local", *words)
