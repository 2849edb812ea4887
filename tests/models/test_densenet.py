import pytest
import torch
import torchvision
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models import DenseNet, build_model
from ray_classy.registry import config_keys
from tests.models.predecessor import OUTLINES, assert_loads, assert_same_outputs, assert_traces, outline, recorded

TINY = {"num_blocks": [2, 1], "init_planes": 8, "growth_rate": 4, "expansion": 2}


@pytest.mark.parametrize("name", ["densenet", "densenet_se"])
def test_the_predecessors_weights_give_its_outputs(name):
    assert_same_outputs(name)


def test_densenet_121_has_the_predecessors_shapes():
    assert outline({"name": "densenet", "num_blocks": [6, 12, 24, 16]}) == OUTLINES["densenet"]


def test_torchvisions_weights_give_its_outputs():
    theirs = torchvision.models.DenseNet(4, (2, 1), num_init_features=8, bn_size=2, num_classes=3)
    head = {"name": "fully_connected", "unique_id": "a", "in_plane": 12, "num_classes": 3, "fork_block": "trunk_output"}
    assert_loads(build_model({"name": "densenet", **TINY, "heads": [head]}), theirs, torch.randn(2, 3, 32, 32))


def test_arguments_go_by_position():
    model = DenseNet([2, 1], 10, 8, 4, 2, True, False, True, 2)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 12, 4, 4)
    assert (model.num_blocks, model.small_input) == ([2, 1], True)


def test_the_keys_of_a_config_are_those_of_the_constructor():
    defaults = {name: key.default for name, key in config_keys(DenseNet).items()}
    assert defaults["growth_rate"] == 32 and defaults["init_planes"] == 64 and defaults["final_bn_relu"] is True
    assert "num_classes" in defaults and "heads" in defaults


def test_layers_and_transitions_are_blocks_for_heads():
    names = DenseNet(**TINY).attachable_block_names
    assert {"block0-0", "block0-1", "block1-0", "transition-0", "trunk_output"} <= set(names)


def test_a_layer_keeps_its_input():
    layer = DenseNet(**TINY).features.block_0[0]
    x = torch.randn(2, 8, 4, 4)
    assert layer(x).shape == (2, 12, 4, 4) and torch.equal(layer(x)[:, :8], x)


def test_convolutions_start_with_the_variance_of_their_outputs():
    weight = DenseNet([1], init_planes=64).initial_block[0].weight
    assert weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.1)


def test_it_is_traced():
    assert_traces("densenet")


@pytest.mark.parametrize(
    "keys",
    [
        {"num_blocks": 3},
        {"num_blocks": []},
        {"num_blocks": [1.0]},
        {"num_blocks": [10**30]},
        {"init_planes": -1},
        {"growth_rate": 2.0},
        {"expansion": 0},
        {"use_se": True, "se_reduction_ratio": 999},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(keys):
    with pytest.raises(ComponentError):
        DenseNet(**{**TINY, **keys})


def test_its_state_comes_back():
    model, case = recorded("densenet_se")
    other = build_model(case["checkpoint"]["input_args"]["config"]["model"])
    assert not other.set_classy_state(model.get_classy_state(deep_copy=True))
    assert any(isinstance(module, nn.Sigmoid) for module in other.modules())
