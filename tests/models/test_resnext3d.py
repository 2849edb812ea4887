import copy
import logging

import pytest
import torch
from torch import nn

from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.models import ClassyModel, ResNeXt3D, build_model
from ray_classy.models.resnext3d_block import residual_transformations, skip_transformations
from ray_classy.models.resnext3d_stage import ResStage
from ray_classy.models.resnext3d_stem import ResNeXt3DStemMultiPathway
from ray_classy.registry import config_keys
from tests.models.recorded_networks import OUTLINES, assert_same_outline, assert_same_outputs, recorded

POST = {
    "skip_transformation_type": "postactivated_shortcut",
    "residual_transformation_type": "postactivated_bottleneck_transformation",
}
TINY = {
    "name": "resnext3d",
    "input_planes": 3,
    "clip_crop_size": 8,
    "frames_per_clip": 2,
    "num_blocks": [1, 1],
    "stem_planes": 2,
    "stage_planes": 4,
    "width_per_group": 2,
    **POST,
}
CASES = recorded("resnext3d")


@pytest.mark.parametrize("name", CASES)
def test_weights_of_classy_vision_give_its_outputs(name):
    assert_same_outputs(CASES[name])


_FULL_SIZE = [name for name in OUTLINES if not name.startswith("vit")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if "r2d" in name else ()) for name in _FULL_SIZE]
)
def test_networks_of_full_size_have_the_entries_of_classy_vision(name):
    assert_same_outline(name)


def test_blocks_have_names_for_heads():
    names = build_model({**TINY, "residual_transformation_type": "preactivated_bottleneck_transformation"})
    assert [name for name in names.attachable_block_names if name.startswith("pathway0-")] == [
        "pathway0-stage1-block0",
        "pathway0-stage2-block0",
        "pathway0-stage2-block0-bn",
        "pathway0-stage2-block0-relu",
    ]


def test_clips_frames_and_mappings_are_inputs():
    clips = torch.randn(2, 3, 1, 8, 8)
    model = build_model(TINY).eval()
    assert model(clips).shape == (2, 8, 1, 2, 2)
    assert torch.equal(model(clips[:, :, 0]), model(clips))
    of_mappings = build_model({**TINY, "input_key": "video"}).eval()
    of_mappings.set_classy_state(model.get_classy_state())
    assert torch.equal(of_mappings({"video": clips, "audio": None}), model(clips))


@pytest.mark.parametrize(
    ("input_key", "x", "message"),
    [
        ("video", torch.zeros(1, 3, 2, 8, 8), "input_key of this resnext3d is 'video': leave it out"),
        ("video", {"audio": 1}, r"a dict with the keys \['audio'\]"),
        (None, {"video": torch.zeros(1, 3, 2, 8, 8)}, "input_key of this resnext3d is None"),
        (None, torch.zeros(3, 8, 8), r"is \(3, 8, 8\); expected a tensor"),
        (None, [1], "is list; expected a tensor"),
    ],
    ids=["tensor", "another key", "no key", "image", "list"],
)
def test_other_inputs_are_refused(input_key, x, message):
    with pytest.raises(ComponentError, match=message):
        build_model({**TINY, "input_key": input_key})(x)


def test_its_input_shape_and_key():
    model = build_model({**TINY, "input_key": "video"})
    assert model.input_shape == (3, 2, 8, 8) and model.input_key == "video"
    assert config_keys(ResNeXt3D)["input_key"].default is None


def test_defaults_are_one_size_and_two_strides():
    model = build_model(TINY)
    first, second = (stage.pathway0[0].residual.branch2b for stage in model.stages)
    assert first.kernel_size == second.kernel_size == (3, 3, 3)
    assert first.stride == (1, 1, 1) and second.stride == (2, 2, 2)


OPTIONS = {"inplace_relu": False, "bn_eps": 0.01, "bn_mmt": 0.02}


@pytest.mark.parametrize("skip", skip_transformations)
@pytest.mark.parametrize("residual", residual_transformations)
def test_options_of_a_stage_reach_all_its_layers(skip, residual):
    numbers = ([4], [8], [2], [[3]], [True], [1], [2], [2], [1])
    layers = list(ResStage(1, *numbers, skip, residual, **OPTIONS, final_stage=True).modules())
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm3d)]
    assert norms and {(norm.eps, norm.momentum) for norm in norms} == {(0.01, 0.02)}
    assert not any(layer.inplace for layer in layers if isinstance(layer, nn.ReLU))


def test_the_first_convolution_may_have_the_spatial_stride():
    block = residual_transformations["postactivated_bottleneck_transformation"](4, 8, 2, 3, 1, 6, 5, True, True)
    assert (block.branch2a.stride, block.branch2b.stride) == ((1, 3, 3), (2, 1, 1))


def test_transformations_refuse_arguments_that_none_of_them_has():
    with pytest.raises(TypeError, match="BasicTransformation has no argument bn_epsilon"):
        residual_transformations["basic_transformation"](4, 8, 1, 1, 1, dim_inner=3, bn_epsilon=0.1)


def test_stems_and_stages_of_two_pathways():
    stem = ResNeXt3DStemMultiPathway(
        [3, 3], [4, 2], [(3, 7, 7), (1, 7, 7)], [(1, 2, 2)] * 2, [(1, 3, 3), (0, 3, 3)], maxpool=[True, False]
    )
    clips = stem([torch.zeros(1, 3, 2, 16, 16), torch.zeros(1, 3, 4, 16, 16)])
    assert [clip.shape for clip in clips] == [(1, 4, 2, 4, 4), (1, 2, 4, 8, 8)]
    numbers = ([4, 2], [8, 4], [2, 2], [[3], [1]], [True, False], [1, 2], [2, 2], [1, 1], [1, 1])
    stage = ResStage(1, *numbers, *POST.values())
    assert [clip.shape for clip in stage(clips)] == [(1, 8, 2, 2, 2), (1, 4, 2, 4, 4)]
    with pytest.raises(ComponentError, match="expected equally many entries"):
        ResStage(1, [4], *numbers[1:], *POST.values())


@pytest.mark.parametrize(
    "residual",
    ["postactivated_bottleneck_transformation", "preactivated_bottleneck_transformation", "basic_transformation"],
)
def test_zero_init_makes_each_block_its_shortcut(residual):
    model = build_model(
        {**TINY, "residual_transformation_type": residual, "zero_init_residual_transform": True, "num_blocks": [2]}
    )
    x = torch.rand(1, 4, 2, 4, 4)
    assert torch.equal(model.stages[0].pathway0[1](x), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skip_transformation_type": "x"}, "skip_transformation_type is 'x'; choose one of"),
        ({"residual_transformation_type": "x"}, "residual_transformation_type is 'x'; choose one of"),
        ({"stem_name": "x"}, "stem_name is 'x'; choose one of"),
        ({"num_blocks": 3}, "num_blocks is 3"),
        ({"num_blocks": [1, 0]}, r"num_blocks\[1\] of a resnext3d is 0"),
        ({"num_blocks": [1, 10**9]}, "more than 10000"),
        ({"frames_per_clip": "4"}, "frames_per_clip of a resnext3d is '4'"),
        ({"temporal_conv_1x1": [True]}, "an entry for each of the 2 stages"),
        ({"stage_temporal_kernel_basis": [3, 3]}, "expected a list of sizes per stage"),
        ({"stage_spatial_stride": [1, -1]}, r"stage_spatial_stride\[1\] of a resnext3d is -1"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(change, message):
    with pytest.raises(ComponentError, match=message):
        build_model({**TINY, **change})


def test_a_missing_argument_is_named():
    with pytest.raises(ComponentError, match="a resnext3d needs num_blocks"):
        build_model({key: value for key, value in TINY.items() if key != "num_blocks"})


def test_weights_of_a_2d_network_are_inflated():
    flat = build_model({**TINY, "stem_temporal_kernel": 1, "stage_temporal_kernel_basis": [[1], [1]]})
    model = build_model(TINY)
    assert not model.set_classy_state(flat.get_classy_state())
    given, found = (net.stem.stem.get_submodule("stem-path0").conv.weight for net in (flat, model))
    assert torch.allclose(found, given.expand(-1, -1, 3, -1, -1) / 3)
    with pytest.raises(CheckpointError, match=r"\(2, 3, 3, 7, 7\) in the state, \(2, 3, 1, 7, 7\) in the model"):
        flat.set_classy_state(model.get_classy_state())


def test_unknown_weights_are_logged_and_left_out(caplog):
    model = build_model(TINY)
    with caplog.at_level(logging.WARNING):
        assert not model.set_classy_state(build_model({**TINY, "num_blocks": [1, 2]}).get_classy_state())
    assert "18 weights in the state are not in this ResNeXt3D" in caplog.text


def test_missing_weights_are_refused_if_strict():
    model = build_model(TINY)
    state = copy.deepcopy(model.get_classy_state())
    del state["model"]["trunk"]["stem.stem.stem-path0.bn.bias"]
    with pytest.raises(CheckpointError, match="1 missing from the state"):
        model.set_classy_state(state)
    assert model.set_classy_state(state, strict=False).missing == ["stem.stem.stem-path0.bn.bias"]


def test_channels_last_gives_the_same_outputs():
    case = CASES["i3d"]
    model = ClassyModel.from_checkpoint(case["checkpoint"]).eval().to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        output = model(case["input"].contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(output, case["output"], rtol=1e-5, atol=1e-5)
