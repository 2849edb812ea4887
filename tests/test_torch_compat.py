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
