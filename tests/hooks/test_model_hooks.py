"""Hooks that look at the model itself: profiler and torchscript."""

import logging
import os

import pytest
import torch

from ray_classy.errors import ComponentError, FolderNotFoundError
from ray_classy.hooks import ModelComplexityHook, ProfilerHook, TorchscriptHook, build_hook
from tests.helpers import Vectors, equal_weights, make_task, run_ranks, train, weights


def test_the_model_is_profiled_and_left_as_it_was(caplog):
    with caplog.at_level(logging.INFO, "ray_classy"):
        profiled = train(make_task(batch_norm=True, hooks=[ProfilerHook()]))
    assert "aten::addmm" in caplog.text and "Self CPU" in caplog.text
    (table,) = [record.getMessage() for record in caplog.records if "Self CPU" in record.getMessage()]
    assert table.splitlines()[1].startswith("---") and len({len(line) for line in table.splitlines()[1:4]}) == 1
    assert equal_weights(weights(profiled), weights(train(make_task(batch_norm=True))))


@pytest.mark.parametrize("rows", [1, 5])
def test_the_traced_file_predicts_as_the_model_does(tmp_path, rows, caplog):
    task = train(make_task(batch_norm=True, dropout=0.2, hooks=[TorchscriptHook(str(tmp_path))]))
    loaded, inputs = torch.jit.load(tmp_path / "torchscript.pt"), Vectors(rows).inputs
    with torch.no_grad():
        assert torch.equal(loaded(inputs), task.base_model.eval()(inputs)) and not loaded.training
    assert "use torch.export.export" in caplog.text


def test_a_folder_that_does_not_exist(tmp_path):
    hook = build_hook({"name": "torchscript", "torchscript_folder": str(tmp_path / "none"), "use_trace": False})
    with pytest.raises(FolderNotFoundError, match="does not exist") as caught:
        train(make_task(hooks=[hook]))
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("folder", [5, "", None])
def test_impossible_folder(folder):
    with pytest.raises(ComponentError, match="torchscript_folder"):
        TorchscriptHook(folder)


def _with_hooks_of_one_rank(strategy, folder):
    hooks = [ProfilerHook(), ModelComplexityHook(), TorchscriptHook(folder)]
    train(make_task(batch=3, hooks=hooks).set_distributed_options(strategy=strategy))
    return True


@pytest.mark.full
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_rank_that_looks_at_the_model_waits_for_no_other(tmp_path, strategy):
    assert run_ranks(2, _with_hooks_of_one_rank, strategy, str(tmp_path), seconds=60) == [True, True]
    assert os.listdir(tmp_path) == ["torchscript.pt"]
