import pytest
from torch import nn

from ray_classy.errors import ComponentError, TaskError
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer
from ray_classy.optim.param_scheduler import LinearParamScheduler
from ray_classy.optim.trained_parameters import trained_parameters


def model():
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)]
    return ClassyModel.from_model(nn.Sequential(*layers))


def grouped(config, net=None, schedulers=None, bn_weight_decay=False):
    optimizer, net = build_optimizer(config), net or model()
    optimizer.set_param_groups(optimizer.make_groups(trained_parameters(net), schedulers or {}, bn_weight_decay))
    names = {parameter: name for name, parameter in net.named_parameters()}
    found = {names[one]: group for group in optimizer.param_groups for one in group["params"]}
    return optimizer, {name.removeprefix("model."): group for name, group in found.items()}


def test_without_layer_decay_there_is_one_group_and_one_of_batch_norm():
    optimizer, groups = grouped({"name": "sgd", "weight_decay": 0.1})
    assert [len(group["params"]) for group in optimizer.param_groups] == [6, 2]
    assert groups["1.weight"]["weight_decay"] == 0 and groups["0.weight"]["weight_decay"] == 0.1
    assert "lr_scale" not in groups["0.weight"]


@pytest.mark.parametrize("name", ["sgd", "NAdam", "lamb"])
def test_the_learning_rate_of_a_layer_is_a_part_of_that_above_it(name):
    _, groups = grouped({"name": name, "lr": 0.1, "layer_decay": 0.5})
    rates = {name: group["lr"] for name, group in groups.items()}
    assert rates["4.bias"] == 0.1 and rates["2.weight"] == pytest.approx(0.05)
    assert rates["0.weight"] == rates["1.weight"] == pytest.approx(0.025)
    assert groups["1.weight"]["weight_decay"] == 0


def test_a_schedule_of_the_learning_rate_is_scaled_and_others_are_not():
    schedulers = {"lr": LinearParamScheduler(1.0, 0.0), "momentum": LinearParamScheduler(0.5, 0.9)}
    optimizer, groups = grouped({"name": "sgd", "layer_decay": 0.5}, schedulers=schedulers)
    assert groups["0.weight"]["lr"] == 0.25 and groups["0.weight"]["momentum"] == 0.5
    optimizer.set_where(0.5)
    assert groups["0.weight"]["lr"] == 0.125 and groups["0.weight"]["momentum"] == pytest.approx(0.7)


def test_a_model_without_layers_is_an_error():
    with pytest.raises(TaskError, match=r"layer_decay needs a ClassyModel.* a Linear has none"):
        grouped({"name": "sgd", "layer_decay": 0.5}, nn.Linear(2, 2))


@pytest.mark.parametrize("wrong", [0, 1.5, True, "half"])
def test_an_impossible_layer_decay_is_refused(wrong):
    with pytest.raises(ComponentError, match="layer_decay must be"):
        build_optimizer({"name": "sgd", "layer_decay": wrong})


def test_frozen_and_shared_parameters_are_left_out():
    net = model()
    net.model[0].weight.requires_grad_(False)
    net.model[2].bias = net.model[0].bias
    names = [one.name.removeprefix("model.") for one in trained_parameters(net, nn.Linear(1, 1))]
    assert names == ["0.bias", "1.weight", "1.bias", "2.weight", "4.weight", "4.bias", "loss.weight", "loss.bias"]
