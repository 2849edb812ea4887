import pytest
import torch

from ray_classy.errors import CheckpointError, ComponentError, UnknownComponentError
from ray_classy.optim import SGD, AdamW, ZeRO, build_optimizer, build_optimizer_schedulers

BASE = {"name": "sgd", "lr": 0.2, "momentum": 0.9}


def stepped(optimizer):
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer.set_param_groups([parameter])
    parameter.grad = torch.tensor([0.5, 0.25])
    optimizer.step(where=0.0)
    return parameter.detach()


def test_the_update_is_that_of_the_base_optimizer():
    assert torch.equal(
        stepped(build_optimizer({"name": "zero", "base_optimizer": BASE})), stepped(SGD(lr=0.2, momentum=0.9))
    )


def test_an_optimizer_may_be_given():
    assert torch.equal(stepped(ZeRO(AdamW(lr=0.5))), stepped(AdamW(lr=0.5)))


def test_the_state_is_that_of_the_base_optimizer():
    zero, plain = ZeRO(SGD(lr=0.2, momentum=0.9)), SGD(lr=0.2, momentum=0.9)
    stepped(zero), stepped(plain)
    assert zero.get_classy_state()["name"] == "SGD"
    plain.set_classy_state(zero.get_classy_state())
    zero.set_classy_state(plain.get_classy_state())
    with pytest.raises(CheckpointError, match="is SGD, this one is AdamW"):
        other = ZeRO(AdamW())
        stepped(other)
        other.set_classy_state(plain.get_classy_state())


def test_schedulers_are_taken_from_either_config():
    constant = {"name": "constant", "value": 0.3}
    inside = {"name": "zero", "base_optimizer": {**BASE, "param_schedulers": {"lr": constant}}}
    outside = {"name": "zero", "base_optimizer": BASE, "param_schedulers": {"lr": constant}}
    assert [build_optimizer_schedulers(config)["lr"](0.5) for config in (inside, outside)] == [0.3, 0.3]


def test_the_base_optimizer_must_be_one():
    with pytest.raises(ComponentError, match="must be an optimizer or its config, not 'sgd'"):
        ZeRO("sgd")
    with pytest.raises(UnknownComponentError, match="unknown optimizer 'sdg'"):
        build_optimizer({"name": "zero", "base_optimizer": {"name": "sdg"}})


def test_a_consolidated_state_is_that_of_the_last_update():
    optimizer = build_optimizer({"name": "zero", "base_optimizer": BASE})
    stepped(optimizer)
    optimizer.consolidate_state_dict()
    state = optimizer.get_classy_state()
    assert state is optimizer.get_classy_state() and state["optim"]["state"]
    optimizer.step(where=0.5)
    assert optimizer.get_classy_state() is not state


def test_new_parameters_drop_a_consolidated_state():
    optimizer = build_optimizer({"name": "zero", "base_optimizer": BASE})
    stepped(optimizer)
    optimizer.consolidate_state_dict()
    optimizer.set_param_groups([torch.nn.Parameter(torch.zeros(7))])
    assert not optimizer.get_classy_state()["optim"]["state"]
