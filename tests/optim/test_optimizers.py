import importlib.util
import inspect

import pytest
import torch

from ray_classy.errors import ComponentError, UnknownComponentError
from ray_classy.optim import SGD, Adam, AdamW, AdamWMT, RMSProp, RMSPropTF, build_optimizer
from ray_classy.registry import config_keys


def one_step(optimizer, **kwargs):
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer.set_param_groups([parameter], **kwargs)
    parameter.grad = torch.tensor([0.5, 0.25])
    optimizer.step(where=0.0)
    return parameter.detach()


def torch_step(cls, **kwargs):
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    parameter.grad = torch.tensor([0.5, 0.25])
    cls([parameter], **kwargs).step()
    return parameter.detach()


@pytest.mark.parametrize(
    ("cls", "peer", "arguments"),
    [
        (SGD, torch.optim.SGD, {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
        (Adam, torch.optim.Adam, {"lr": 0.2, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}),
        (AdamW, torch.optim.AdamW, {"lr": 0.2, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}),
        (AdamWMT, torch.optim.AdamW, {"lr": 0.2, "betas": (0.8, 0.9), "weight_decay": 0.1, "foreach": True}),
        (RMSProp, torch.optim.RMSprop, {"lr": 0.2, "momentum": 0.9, "alpha": 0.5, "eps": 0.1, "centered": True}),
    ],
)
def test_the_update_is_torchs(cls, peer, arguments):
    ours = {name: value for name, value in arguments.items() if name != "foreach"}
    assert torch.equal(one_step(cls(**ours)), torch_step(peer, **arguments))


ARGUMENTS = {
    SGD: ["larc_config", "lr", "momentum", "weight_decay", "nesterov", "use_larc"],
    Adam: ["lr", "betas", "eps", "weight_decay", "amsgrad"],
    AdamW: ["lr", "betas", "eps", "weight_decay", "amsgrad"],
    AdamWMT: ["lr", "betas", "eps", "weight_decay", "amsgrad"],
    RMSProp: ["lr", "momentum", "weight_decay", "alpha", "eps", "centered"],
    RMSPropTF: ["lr", "momentum", "weight_decay", "alpha", "eps", "centered"],
}


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_arguments_have_the_order_of_the_predecessor(cls):
    assert list(inspect.signature(cls).parameters) == ARGUMENTS[cls]


def test_a_learning_rate_given_to_sgd_by_position_is_refused():
    with pytest.raises(ComponentError, match=r"not 0\.1: give other arguments by name"):
        SGD(0.1)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_tf_has_eps_inside_the_root(centered):
    optimizer, parameter = RMSPropTF(0.1, 0.9, 0.01, 0.5, 0.1, centered), torch.nn.Parameter(torch.ones(1))
    optimizer.set_param_groups([parameter])
    p, square, mean, momentum = 1.0, 0.0, 0.0, 0.0
    for gradient in (0.5, 0.3):
        parameter.grad = torch.tensor([gradient])
        optimizer.step(where=0)
        g = gradient + 0.01 * p
        square, mean = 0.5 * square + 0.5 * g**2, (0.5 * mean + 0.5 * g) * centered
        momentum = 0.9 * momentum + g / (square - mean**2 + 0.1) ** 0.5
        p -= 0.1 * momentum
    assert parameter.item() == pytest.approx(p)


def test_rmsprop_tf_runs_a_closure_and_skips_parameters_without_a_gradient():
    optimizer, parameter = RMSPropTF(), torch.nn.Parameter(torch.ones(1))
    optimizer.set_param_groups([parameter])
    assert optimizer.step(closure=lambda: 7, where=0) == 7 and parameter.item() == 1


LEARNING_RATES = {"sgd": 0.1, "adam": 0.1, "adamw": 0.01, "adamw_mt": 0.01, "rmsprop": 0.1, "rmsprop_tf": 0.1}


@pytest.mark.parametrize(("name", "lr"), LEARNING_RATES.items())
def test_the_learning_rate_of_a_config_without_one(name, lr):
    optimizer = build_optimizer({"name": name})
    optimizer.set_param_groups([torch.nn.Parameter(torch.zeros(1))])
    assert optimizer.options_view.lr == lr
    assert config_keys(type(optimizer))["lr"].default == lr


def test_adamw_constructed_directly_has_another_learning_rate():
    optimizer = AdamW()
    optimizer.set_param_groups([torch.nn.Parameter(torch.zeros(1))])
    assert optimizer.options_view.lr == 0.001


def test_keys_of_the_task_are_accepted_and_left_in_place():
    config = {"name": "sgd", "num_epochs": 90, "param_schedulers": {"lr": {"name": "constant", "value": 0.1}}}
    build_optimizer(config)
    assert config["num_epochs"] == 90 and "param_schedulers" in config


def test_schedulers_are_a_key_of_every_optimizer():
    assert {"lr", "momentum", "param_schedulers"} <= config_keys(SGD).keys()


def test_betas_of_a_config_are_a_list():
    assert isinstance(build_optimizer({"name": "adam", "betas": [0.5, 0.9]}), Adam)


def test_an_integer_momentum_is_fine():
    assert isinstance(build_optimizer({"name": "sgd", "momentum": 0}), SGD)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "sgd", "lr": -1},
        {"name": "sgd", "lr": "0.1"},
        {"name": "sgd", "momentum": 1},
        {"name": "sgd", "momentum": True},
        {"name": "sgd", "weight_decay": float("nan")},
        {"name": "sgd", "nesterov": True},
        {"name": "sgd", "use_larc": 1},
        {"name": "adam", "betas": [0.9]},
        {"name": "adam", "betas": [0.9, 1.0]},
        {"name": "adam", "amsgrad": "yes"},
        {"name": "adamw", "eps": -1},
        {"name": "adamw", "weight_decay": None},
        {"name": "sgd", "larc_config": 3},
        {"name": "rmsprop", "momentum": 1},
        {"name": "rmsprop", "alpha": 1.0},
        {"name": "rmsprop_tf", "eps": -1.0},
        {"name": "rmsprop_tf", "centered": 1},
    ],
)
def test_impossible_arguments_are_refused_by_name(wrong):
    with pytest.raises(ComponentError, match=list(wrong)[1]):
        build_optimizer(wrong)


def test_an_unknown_optimizer_is_a_key_error_with_a_suggestion():
    with pytest.raises(KeyError, match="'adamw'"):
        build_optimizer({"name": "adam_w"})
    with pytest.raises(UnknownComponentError):
        build_optimizer({"lr": 1})


@pytest.mark.skipif(importlib.util.find_spec("apex") is not None, reason="apex is installed")
def test_larc_without_apex_says_what_to_do():
    with pytest.raises(ComponentError, match="install it from"):
        SGD(use_larc=True)
