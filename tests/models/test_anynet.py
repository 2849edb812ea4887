import pytest
import torch

from ray_classy.errors import ComponentError, ConfigError
from ray_classy.models import AnyNet, build_model
from ray_classy.models.anynet import ActivationType, AnyNetParams, BlockType, StemType
from tests.models.predecessor import assert_same_outputs, assert_traces

STAGES = {
    "depths": [2, 1],
    "widths": [8, 16],
    "group_widths": [4, 4],
    "bottleneck_multipliers": [1.0, 1.0],
    "strides": [2, 2],
}


@pytest.mark.parametrize("name", ["anynet", "anynet_vanilla", "anynet_basic"])
def test_the_predecessors_weights_give_its_outputs(name):
    assert_same_outputs(name)


def test_parameters_have_the_predecessors_defaults():
    params = AnyNetParams([2, 1], [8, 16], [4, 4], [1.0, 1.0], [2, 2])
    assert (params.stem_type, params.stem_width) == (StemType.SIMPLE_STEM_IN, 32)
    assert (params.block_type, params.activation) == (BlockType.RES_BOTTLENECK_BLOCK, ActivationType.RELU)
    assert (params.use_se, params.se_ratio, params.bn_epsilon, params.bn_momentum) == (True, 0.25, 1e-5, 0.1)
    assert params.get_expanded_params() == [(8, 2, 2, 4, 1.0), (16, 2, 1, 4, 1.0)]


@pytest.mark.parametrize("name", ["res_stem_in", "RES_STEM_IN", StemType.RES_STEM_IN], ids=str)
def test_types_are_members_or_their_names(name):
    assert AnyNetParams(**STAGES, stem_type=name).stem_type is StemType.RES_STEM_IN


def test_a_network_is_built_from_parameters_and_from_a_config():
    built = AnyNet(AnyNetParams(**STAGES)), build_model({"name": "anynet", **STAGES})
    assert [key for key in built[0].state_dict()] == [key for key in built[1].state_dict()]
    assert built[0](torch.zeros(2, 3, 32, 32)).shape == (2, 16, 4, 4)


def test_stages_and_blocks_are_blocks_for_heads():
    names = AnyNet(AnyNetParams(**STAGES)).attachable_block_names
    assert {"block1", "block1-0", "block1-1", "block2", "block2-0", "trunk_output"} <= set(names)


@pytest.mark.parametrize(("use_se", "depth"), [(True, 12), (False, 9)])
def test_trunk_depth_counts_layers(use_se, depth):
    assert AnyNet(AnyNetParams(**STAGES, use_se=use_se)).trunk_depth == depth


def test_batch_norms_have_their_options():
    model = AnyNet(AnyNetParams(**STAGES, bn_epsilon=1e-3, bn_momentum=0.3))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.3)}


@pytest.mark.parametrize("name", ["anynet_vanilla", "anynet_basic", "regnet_y", "regnet_z"])
def test_it_is_traced(name):
    assert_traces(name)


@pytest.mark.parametrize("keys", [{"stem_type": "small"}, {"block_type": 7}, {"activation": "gelu"}], ids=str)
def test_unknown_types_are_refused(keys):
    with pytest.raises(ConfigError, match=r"must be '.*' or '.*', not") as caught:
        build_model({"name": "anynet", **STAGES, **keys})
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    "keys",
    [{"depths": [1]}, {"depths": [0, 1]}, {"widths": [8, 18]}, {"strides": [2, -1]}, {"depths": [1, 10**30]}],
    ids=str,
)
def test_impossible_numbers_are_refused(keys):
    with pytest.raises(ComponentError):
        build_model({"name": "anynet", **STAGES, **keys})
