import copy

import pytest
import torch
from torch import nn

from ray_classy.config.check import check_config
from ray_classy.errors import ComponentError, ConfigError
from ray_classy.losses import (
    LOSS_REGISTRY,
    ClassyLoss,
    MultiOutputSumLoss,
    SumArbitraryLoss,
    build_loss,
    has_learned_parameters,
    register_loss,
)

X, Y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])


@register_loss("scaled_distance_for_test")
class ScaledDistance(ClassyLoss):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, output, target):
        return self.scale * (output - target).abs().mean()  # 1.75 for X and Y


def distance(scale=1.0):
    return {"name": "scaled_distance_for_test", "scale": scale}


@pytest.mark.parametrize("output", [[X, 2 * X], (X, 2 * X), {"a": X, "b": 2 * X}], ids=["list", "tuple", "dict"])
def test_a_loss_is_summed_over_the_outputs(output):
    loss = build_loss({"name": "multi_output_sum_loss", "loss": distance()})
    assert loss(output, Y) == 1.75 + 4.25


def test_one_tensor_is_one_output():
    assert MultiOutputSumLoss(ScaledDistance())(X, Y) == 1.75


def test_a_model_without_outputs_has_no_loss():
    with pytest.raises(ComponentError, match="no outputs"):
        MultiOutputSumLoss(ScaledDistance())([], Y)
    with pytest.raises(ComponentError, match="loss must be a loss module, not None"):
        MultiOutputSumLoss(None)


@pytest.mark.parametrize("config", [{}, {"loss": None}, {"loss": [distance()]}])
def test_the_loss_of_an_output_is_a_config(config):
    with pytest.raises(ConfigError, match="`loss` of 'multi_output_sum_loss' must be"):
        build_loss({"name": "multi_output_sum_loss", **config})


def test_every_loss_has_its_weight():
    loss = build_loss({"name": "sum_arbitrary", "losses": [distance(), distance(2.0)], "weights": [3.0, 4.0]})
    assert loss(X, Y) == 3 * 1.75 + 4 * 3.5


def test_weights_are_one_without_any():
    assert SumArbitraryLoss([ScaledDistance(), ScaledDistance(2.0)])(X, Y) == 5.25


@pytest.mark.parametrize("weights", [[1.0], ["a", 1.0], 2.0, [float("nan"), 1.0], torch.ones(3), [True, 1.0]])
def test_weights_are_as_many_numbers_as_losses(weights):
    with pytest.raises(ComponentError, match="weights must be a list of 2 finite numbers"):
        SumArbitraryLoss([ScaledDistance(), ScaledDistance()], weights)


@pytest.mark.parametrize("config", [{}, {"losses": []}, {"losses": distance()}])
def test_there_is_a_list_of_losses(config):
    with pytest.raises(ConfigError, match="losses of sum_arbitrary must be a list"):
        build_loss({"name": "sum_arbitrary", "weights": [], **config})


@pytest.mark.parametrize("loss", [MultiOutputSumLoss(ScaledDistance(5.0)), SumArbitraryLoss([ScaledDistance(5.0)])])
def test_what_the_parts_learn_is_trained_copied_and_saved(loss):
    assert loss.has_learned_parameters() and copy.deepcopy(loss)(X, Y) == loss(X, Y)
    other = copy.deepcopy(loss)
    nn.init.zeros_(next(other.parameters()))
    other.set_classy_state(loss.get_classy_state())
    assert other(X, Y) == 5 * 1.75


def test_a_sum_of_torchs_losses_has_no_state():
    loss = SumArbitraryLoss([nn.MSELoss(), nn.L1Loss()], [0.5, 2])
    assert not loss.get_classy_state() and not has_learned_parameters(loss)
    assert loss(X, Y) == 0.5 * nn.functional.mse_loss(X, Y) + 2 * 1.75


def test_the_configs_of_parts_are_checked():
    config = {"name": "sum_arbitrary", "losses": [{"name": "MSELoss"}, {"name": "MSELos"}], "weights": [1, 1]}
    with pytest.raises(ConfigError, match=r"losses\.1\.name.*MSELoss"):
        check_config(config, LOSS_REGISTRY)
    with pytest.raises(ConfigError, match=r"loss\.redction"):
        check_config({"name": "multi_output_sum_loss", "loss": {"name": "MSELoss", "redction": 1}}, LOSS_REGISTRY)
