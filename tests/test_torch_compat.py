import functools
import importlib
import inspect
import warnings

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ray_classy import torch_compat
from ray_classy.distributed import get_rank
from tests.helpers import run_ranks


def test_ddp_takes_one_of_the_two_arguments():
    arguments = inspect.signature(DistributedDataParallel.__init__).parameters
    assert torch_compat.ddp_has_forward_sync_buffers() or "broadcast_buffers" in arguments


def buffers_of_a_rank(hidden, forward_sync_buffers):
    """The running means after the model was wrapped, and after one forward pass in evaluation mode."""
    has = torch_compat.ddp_has_forward_sync_buffers
    if hidden:
        torch_compat.ddp_has_forward_sync_buffers = lambda: False
    try:
        model = nn.BatchNorm1d(2)
        model.running_mean.fill_(float(get_rank()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if hidden else "error", FutureWarning)  # newer torch warns of the older name
            wrapped = torch_compat.wrap_in_ddp(model, forward_sync_buffers=forward_sync_buffers)
        seen = [model.running_mean.tolist()]
        model.running_mean.fill_(float(get_rank()))
        wrapped(torch.zeros(2, 2))
        return [*seen, model.running_mean.tolist()]
    finally:
        torch_compat.ddp_has_forward_sync_buffers = has


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("forward_sync_buffers", [False, True])
def test_buffers_of_rank_0_are_copied_at_the_start_and_where_asked_in_forward(hidden, forward_sync_buffers):
    first, second = run_ranks(2, buffers_of_a_rank, hidden, forward_sync_buffers)
    assert first[0] == second[0] == [0.0, 0.0]
    assert (first[1] == second[1]) is forward_sync_buffers


def one_parameter(kind=torch.optim.SGD):
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    return parameter, kind([parameter], lr=0.25)


def test_a_step_without_hooks_and_profiler_skips_torchs_wrapper(monkeypatch):
    parameter, optimizer = one_parameter()
    monkeypatch.setattr(optimizer, "_optimizer_step_code", None)  # the wrapper would call it
    torch_compat.step_of(optimizer)()
    assert parameter.tolist() == [0.75] and parameter.requires_grad


@pytest.mark.parametrize("point", ["pre", "post"])
@pytest.mark.parametrize("scope", ["own", "global"])
def test_hooks_of_a_step_are_called(point, scope):
    calls, (_, optimizer) = [], one_parameter()
    add = (
        getattr(optimizer, f"register_step_{point}_hook")
        if scope == "own"
        else getattr(importlib.import_module("torch.optim.optimizer"), f"register_optimizer_step_{point}_hook")
    )
    handle = add(lambda *_: calls.append(point))
    torch_compat.step_of(optimizer)()
    handle.remove()
    torch_compat.step_of(optimizer)()
    assert calls == [point]


def test_a_profiler_sees_the_step():
    _, optimizer = one_parameter()
    with torch.profiler.profile() as profile:
        torch_compat.step_of(optimizer)()
    assert "Optimizer.step#SGD.step" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("of_class", [False, True])
def test_a_step_that_was_replaced_is_called(of_class, monkeypatch):
    class Own(torch.optim.SGD):
        """So that torch's own class stays as it is."""

    parameter, optimizer = one_parameter(Own)
    before, calls = Own.step, []

    @functools.wraps(before)
    def step(*args):
        calls.append(1)
        return before(*args) if of_class else before(optimizer)

    monkeypatch.setattr(Own if of_class else optimizer, "step", step)
    torch_compat.step_of(optimizer)()
    assert calls == [1] and parameter.tolist() == [0.75]


@pytest.mark.parametrize("name", ["torch.optim.Optimizer.profile_hook_step", "torch.autograd._profiler_enabled"])
def test_the_wrapper_is_kept_where_torch_lacks_a_name(name, monkeypatch):
    calls, (parameter, optimizer) = [], one_parameter()
    monkeypatch.setattr(optimizer, "_optimizer_step_code", lambda: calls.append(1))
    monkeypatch.delattr(name)
    torch_compat._wrapper_code.cache_clear()
    torch_compat.step_of(optimizer)()
    torch_compat._wrapper_code.cache_clear()
    assert calls == [1] and parameter.tolist() == [0.75]


def test_a_step_that_is_not_a_function_is_called():
    class Step:
        __wrapped__ = None

        def __call__(self):
            return "called"

    class Own:
        step = Step()

    assert torch_compat.step_of(Own())() == "called"
