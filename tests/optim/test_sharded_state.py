"""What needs no other rank; what ranks do together is in tests/tasks/test_sharding.py."""

from collections import Counter

import pytest
import torch

from ray_classy.errors import ComponentError, TaskError
from ray_classy.optim import AdamW, build_optimizer
from ray_classy.optim.sharded_state import ShardedOptimizerState, full


def optimizer_of(*sizes):
    optimizer = AdamW()
    optimizer.set_param_groups([torch.nn.Parameter(torch.zeros(size)) for size in sizes])
    return optimizer


def test_the_largest_are_sharded_first():
    optimizer = optimizer_of(2, 9, 3, 4)
    sharded = ShardedOptimizerState(optimizer.optimizer)
    sharded._loads = [0, 0]
    sizes = Counter()
    for parameter, owner in sharded.owners(optimizer.optimizer).items():
        sizes[owner] += parameter.numel()
    assert sizes == {0: 9, 1: 9}


def test_who_keeps_what_does_not_change_with_more_parameters():
    optimizer = optimizer_of(2, 9)
    sharded = ShardedOptimizerState(optimizer.optimizer)
    sharded._loads = [0, 0]
    before = dict(sharded.owners(optimizer.optimizer))
    optimizer.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(20))]})
    after = sharded.owners(optimizer.optimizer)
    assert len(after) == 3 and all(after[parameter] == owner for parameter, owner in before.items())


def test_one_rank_keeps_everything():
    optimizer, plain = optimizer_of(3, 4), optimizer_of(3, 4)
    ShardedOptimizerState(optimizer.optimizer)
    for each in (optimizer, plain):
        for parameter in each.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
        each.step(where=0.0)
    ours, theirs = optimizer.get_classy_state()["optim"], plain.get_classy_state()["optim"]
    assert ours["param_groups"] == theirs["param_groups"]
    torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)


def test_a_closure_is_refused():
    optimizer = optimizer_of(3)
    ShardedOptimizerState(optimizer.optimizer)
    with pytest.raises(TaskError, match="cannot update with a closure"):
        optimizer.step(closure=lambda: 0.0, where=0.0)


def test_a_state_cannot_be_gathered_when_the_other_ranks_have_gone():
    optimizer = optimizer_of(3)
    ShardedOptimizerState(optimizer.optimizer).world_size = 2
    with pytest.raises(TaskError, match="ranks that no longer exist: read the run's checkpoint"):
        optimizer.get_classy_state()


def test_what_is_no_torch_optimizer_is_refused():
    with pytest.raises(ComponentError, match=r"shards the state of torch's optimizers, not of a SGD: .*use_larc"):
        ShardedOptimizerState(build_optimizer({"name": "sgd"}))


def test_what_is_not_sharded_stays_as_it_is():
    tensor = torch.ones(2)
    value = {"a": [tensor, 1, None], "b": (tensor, "x")}
    assert full(value) == value and full(value)["a"][0] is tensor
