import pytest
import torch
from torchvision.models.regnet import BlockParams
from torchvision.models.regnet import RegNet as TorchvisionRegNet

from ray_classy.errors import ComponentError
from ray_classy.models import MODEL_REGISTRY, AnyNet, RegNet, build_model
from ray_classy.models.anynet import ActivationType, BlockType
from ray_classy.models.regnet import RegNetParams, RegNetX400mf, RegNetY400mf, RegNetZ500mf
from ray_classy.registry import config_keys
from tests.models.predecessor import OUTLINES, assert_loads, assert_same_outputs, outline

NUMBERS = {"depth": 5, "w_0": 8, "w_a": 4.0, "w_m": 2.0, "group_width": 4}


@pytest.mark.parametrize("name", ["regnet_y", "regnet_x", "regnet_z"])
def test_the_predecessors_weights_give_its_outputs(name):
    assert_same_outputs(name)


@pytest.mark.parametrize("name", ["regnet_y_400mf", "regnet_y_8gf", "regnet_x_1.6gf", "regnet_z_500mf"])
def test_named_networks_have_the_predecessors_shapes(name):
    assert outline({"name": name}) == OUTLINES[name]


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in OUTLINES if name.startswith("regnet")])
def test_all_named_networks_have_the_predecessors_shapes(name):
    assert outline({"name": name}) == OUTLINES[name]


def test_a_name_is_that_of_its_class():
    assert MODEL_REGISTRY["regnet_y_1.6gf"].__name__ == "RegNetY1_6gf"
    assert issubclass(MODEL_REGISTRY["regnet_x_32gf"], RegNet) and issubclass(RegNet, AnyNet)


def test_torchvisions_weights_give_its_outputs():
    blocks = BlockParams.from_init_params(depth=5, w_0=8, w_a=4.0, w_m=2.0, group_width=4, se_ratio=0.25)
    theirs = TorchvisionRegNet(blocks, num_classes=3, stem_width=8)
    head = {"name": "fully_connected", "unique_id": "a", "in_plane": 32, "num_classes": 3, "fork_block": "trunk_output"}
    config = {"name": "regnet", **NUMBERS, "stem_width": 8, "heads": [head]}
    assert_loads(build_model(config), theirs, torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("numbers", "stages"),
    [
        (
            (16, 48, 27.89, 2.09, 8),
            [(48, 2, 1, 8, 1.0), (104, 2, 3, 8, 1.0), (208, 2, 6, 8, 1.0), (440, 2, 6, 8, 1.0)],
        ),
        (
            (23, 80, 49.56, 2.88, 120),
            [(80, 2, 2, 80, 1.0), (240, 2, 5, 120, 1.0), (720, 2, 15, 120, 1.0), (1920, 2, 1, 120, 1.0)],
        ),
    ],
)
def test_stages_follow_from_the_numbers(numbers, stages):
    assert RegNetParams(*numbers).get_expanded_params() == stages


def test_parameters_keep_their_numbers():
    params = RegNetParams(5, 8, 4.0, 2.0, 4, 2.0)
    kept = (params.depth, params.w_0, params.w_a, params.w_m, params.group_width, params.bottleneck_multiplier)
    assert kept == (5, 8, 4.0, 2.0, 4, 2.0)


def test_a_named_network_takes_what_its_name_leaves_open():
    with torch.device("meta"):
        assert not any(".se." in key for key in build_model({"name": "regnet_y_400mf", "use_se": False}).state_dict())
        assert RegNetY400mf(stem_width=16).stem.stem[0].out_channels == 16
        assert isinstance(RegNetY400mf(activation="silu").stem.stem[2], torch.nn.SiLU)


@pytest.mark.parametrize(
    ("model", "key"), [(RegNetY400mf, "depth"), (RegNetX400mf, "use_se"), (RegNetZ500mf, "activation")]
)
def test_a_named_network_refuses_what_its_name_fixes(model, key):
    assert key not in config_keys(model)
    with pytest.raises(ComponentError, match=f"{key} cannot be given to {model.__name__}") as caught:
        model(**{key: 1})
    assert isinstance(caught.value, TypeError)


def test_a_named_network_refuses_unknown_keys():
    with pytest.raises(TypeError, match="zz"):
        build_model({"name": "regnet_y_400mf", "zz": 1})


def test_types_are_checked_with_the_config():
    keys = config_keys(RegNet)
    assert keys["block_type"][:2] == (BlockType, BlockType.RES_BOTTLENECK_BLOCK)
    assert keys["activation"][:2] == (ActivationType, ActivationType.RELU) and "depths" not in keys


@pytest.mark.parametrize(
    "keys",
    [{"w_a": -1}, {"w_m": 1.0}, {"w_0": 10}, {"w_0": 0}, {"depth": 0}, {"depth": 10**9}, {"group_width": 0}],
    ids=str,
)
def test_impossible_numbers_are_refused(keys):
    with pytest.raises(ComponentError):
        RegNetParams(**{**NUMBERS, **keys})
