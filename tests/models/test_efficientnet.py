import functools

import pytest
import torch
from torch import nn
from torchvision.models import EfficientNet as TorchvisionEfficientNet
from torchvision.models.efficientnet import MBConvConfig

from ray_classy.errors import ComponentError
from ray_classy.models import EfficientNet, build_model
from ray_classy.models.efficientnet import (
    BLOCK_PARAMS,
    MODEL_PARAMS,
    EfficientNetB0,
    EfficientNetParams,
    drop_connect,
    scale_depth,
    scale_width,
)
from ray_classy.models.mbconv_block import MBConvBlock
from ray_classy.registry import config_keys
from tests.models.predecessor import OUTLINES, assert_loads, assert_same_outputs, assert_traces, outline

SMALL = EfficientNetParams(0.05, 0.4, 32, 0.0)
TINY = {
    "name": "efficientnet",
    "model_params": SMALL._asdict(),
    "bn_momentum": 0.01,
    "bn_epsilon": 1e-3,
    "width_divisor": 4,
    "min_width": None,
    "drop_connect_rate": 0.2,
    "use_se": True,
    "num_classes": 3,
}


@pytest.mark.parametrize("name", ["efficientnet", "efficientnet_head"])
def test_the_predecessors_weights_give_its_outputs(name):
    assert_same_outputs(name)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b3"])
def test_named_networks_have_the_predecessors_shapes(name):
    assert outline({"name": name}) == OUTLINES[name]


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in OUTLINES if name.startswith("efficientnet")])
def test_all_named_networks_have_the_predecessors_shapes(name):
    assert outline({"name": name}) == OUTLINES[name]


def test_torchvisions_weights_give_its_outputs():
    stages = [
        MBConvConfig(s.expand_ratio, s.kernel_size, s.stride, s.input_filters, s.output_filters, s.num_repeat, 0.2, 0.4)
        for s in BLOCK_PARAMS
    ]
    norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
    theirs = TorchvisionEfficientNet(stages, 0.0, num_classes=3, norm_layer=norm, last_channel=256)
    params = EfficientNetParams(0.2, 0.4, 32, 0.0)
    assert_loads(EfficientNet(3, params, drop_connect_rate=0.0), theirs, torch.randn(2, 3, 32, 32))


def test_a_model_name_chooses_its_parameters():
    model = build_model({**TINY, "model_name": "B1"}, device="meta")
    assert model.input_shape == (3, 240, 240) and model.image_resolution == MODEL_PARAMS["B1"].resolution


def test_arguments_go_by_position():
    model = EfficientNet(5, SMALL, 0.05, 1e-2, 8, 16, None, False)
    assert model.num_classes == 5 and model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert (model.bn0.momentum, model.bn0.eps, model.bn0.num_features) == (0.05, 1e-2, 16)


def test_a_named_network_is_not_changed_by_keys_that_the_predecessor_ignored():
    assert (
        build_model({"name": "efficientnet_b0", "num_classes": 10, "use_se": False}, device="meta").num_classes == 1000
    )


def test_blocks_are_named_by_stage_and_number():
    names = build_model(TINY).attachable_block_names
    assert {"block0-0", "block3-1", "block6-0", "trunk_output", "fc"} <= set(names)


def test_the_keys_of_a_config():
    keys = config_keys(EfficientNet)
    assert {"model_name", "model_params", "num_classes", "heads"} <= keys.keys()
    assert keys["model_params"].default is None


def test_later_blocks_are_skipped_more_often():
    blocks = list(build_model(TINY).blocks)
    assert [block.drop_connect_rate for block in blocks] == [0.2 * i / len(blocks) for i in range(len(blocks))]


def test_a_skipped_block_is_its_input_and_the_others_are_scaled():
    block = MBConvBlock(4, 4, 1, 3, 1, 0.25, True, True, 0.01, 1e-3, drop_connect_rate=0.5)
    x = torch.randn(64, 4, 4, 4)
    whole = block.train()(x) - x
    skipped = (whole == 0).flatten(1).all(1)
    assert 10 < skipped.sum() < 54
    assert not torch.equal(block.eval()(x), x)


def test_weights_start_as_the_predecessors():
    model = build_model({**TINY, "num_classes": 100})
    assert model.conv_head.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.15)
    assert model.fc.weight.abs().max().item() == pytest.approx(0.1, rel=0.01)
    assert all((block.se_reduce.bias == 0).all() and (block.se_expand.bias == 0).all() for block in model.blocks)


def test_widths_lose_at_most_a_tenth():
    assert [scale_width(n, 1.1, 8, None) for n in (16, 24, 32, 40)] == [16, 24, 32, 48]
    assert [scale_width(16, None, 8, 32), scale_width(16, 1.0, 8, 32), scale_width(10, 0.3, 8, None)] == [16, 32, 8]


def test_depths_are_rounded_up():
    assert [scale_depth(3, None), scale_depth(3, 1.1), scale_depth(2, 0.5)] == [3, 4, 1]


def test_it_is_traced():
    assert_traces("efficientnet")


@pytest.mark.parametrize(
    "keys",
    [
        {"model_name": "B9"},
        {"model_params": {"width_coefficient": 1.0}},
        {"num_classes": 0},
        {"width_divisor": 0},
        {"drop_connect_rate": 1.5},
        {"model_params": {**SMALL._asdict(), "dropout_rate": 1.0}},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(keys):
    with pytest.raises(ComponentError):
        build_model({**TINY, **keys})


def test_a_network_needs_parameters():
    with pytest.raises(ComponentError, match=r"model_name .* or model_params"):
        build_model({key: value for key, value in TINY.items() if key != "model_params"})


def test_named_networks_take_the_keys_of_a_config_without_effect():
    with torch.device("meta"):
        assert EfficientNetB0(num_classes=3, bn_momentum=0.5).fc.out_features == 1000
        with pytest.raises(TypeError, match="EfficientNetB0 has no argument classes"):
            EfficientNetB0(classes=3)


def test_drop_connect_scales_what_it_keeps():
    torch.manual_seed(0)
    assert set(drop_connect(torch.ones(20, 1, 1, 1), True, 0.5).flatten().tolist()) == {0.0, 2.0}
    assert not drop_connect(torch.ones(2, 1), True, 1.0).any()
    assert drop_connect(torch.ones(2, 1), False, 1.0).all()
