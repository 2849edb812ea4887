import copy
import pickle

import pytest
import torch

from ray_classy.config import check_config
from ray_classy.errors import ArgumentTypeError, ComponentError, ConfigError, DamagedCheckpointError
from ray_classy.optim import OPTIMIZER_REGISTRY, Adam, build_optimizer
from ray_classy.optim.torch_optimizers import names


def prepared(config):
    optimizer = build_optimizer(config)
    optimizer.set_param_groups([torch.nn.Parameter(torch.ones(2, 3))])
    return optimizer


def stepped(optimizer, where=0.0):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step(where=where)
    return optimizer


@pytest.mark.parametrize("name", names())
def test_every_optimizer_of_torch_updates_as_torch_does_and_goes_on_from_its_state(name):
    ours, theirs = prepared({"name": name, "lr": 0.25}), torch.nn.Parameter(torch.ones(2, 3))
    peer = getattr(torch.optim, name)([theirs], lr=0.25)
    theirs.grad = torch.full_like(theirs, 0.5)
    for _ in range(2):
        peer.step()
    again = prepared({"name": name, "lr": 0.25})
    again.param_groups[0]["params"][0].data = stepped(ours).param_groups[0]["params"][0].data.clone()
    again.set_classy_state(ours.get_classy_state())
    for optimizer in (stepped(ours), stepped(again)):
        assert torch.equal(optimizer.param_groups[0]["params"][0], theirs)


def test_names_in_small_letters_mean_the_same_unless_they_are_registered():
    assert type(build_optimizer({"name": "nadam"})) is type(build_optimizer({"name": "NAdam"}))
    assert type(build_optimizer({"name": "adam"})) is Adam is not type(build_optimizer({"name": "Adam"}))


@pytest.mark.parametrize(
    "name, reason", [("LBFGS", "several times for one update"), ("sparseadam", "sparse gradients only")]
)
def test_those_that_cannot_train_a_task_are_refused_with_the_reason(name, reason):
    with pytest.raises(KeyError, match=f"cannot be used: .*{reason}"):
        build_optimizer({"name": name})
    with pytest.raises(ConfigError, match=f"name: .*{reason}"):
        check_config({"name": name}, OPTIMIZER_REGISTRY)


def test_a_wrong_key_or_value_is_named():
    good = {"name": "AdamW", "lr": 1e-3, "betas": [0.9, 0.99], "fused": True, "foreach": None, "layer_decay": 0.5}
    check_config(good, OPTIMIZER_REGISTRY)
    for wrong, message in (
        ({"momentum_dekay": 0.1}, "did you mean 'momentum_decay'"),
        ({"betas": 0.9}, "betas: expected"),
        ({"lr": "big"}, "lr: expected a number, not 'big'"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_config({"name": "NAdam", **wrong}, OPTIMIZER_REGISTRY)
    with pytest.raises(ComponentError, match=r"torch.optim.NAdam: .*-1"):
        build_optimizer({"name": "NAdam", "lr": -1.0})
    with pytest.raises(ArgumentTypeError, match=r"torch.optim.NAdam: .*'?rate'?"):
        build_optimizer({"name": "NAdam", "rate": 1.0})


def test_they_are_copied_and_pickled_like_others():
    optimizer = stepped(prepared({"name": "RAdam", "lr": 0.5}))
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(other) is type(optimizer)
        assert torch.equal(*(stepped(each).param_groups[0]["params"][0] for each in (copy.deepcopy(optimizer), other)))


@pytest.mark.parametrize(
    "config, buffer",
    [
        ({"name": "SGD", "momentum": 0.9}, "momentum_buffer"),
        ({"name": "Muon"}, "momentum_buffer"),
        ({"name": "Adagrad"}, "sum"),
    ],
)
def test_a_state_that_lacks_a_buffer_is_damaged(config, buffer):
    state = copy.deepcopy(stepped(prepared(config)).get_classy_state())
    del state["optim"]["state"][0][buffer]
    with pytest.raises(DamagedCheckpointError, match=f"parameter 0 has no {buffer}"):
        prepared(config).set_classy_state(state)


def test_a_fused_optimizer_takes_parameters_without_memory():
    optimizer = build_optimizer({"name": "AdamW", "fused": True})
    optimizer.set_param_groups([torch.nn.Parameter(torch.empty(2, device="meta"))])
    assert optimizer.param_groups[0]["fused"] is None
