import re

import pytest
import torch
import torchvision
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.generic.profiler import count_params
from ray_classy.models import ResNet, ResNeXt, ResNeXt50, build_model
from ray_classy.models.resnext import BasicLayer, BottleneckLayer, GenericLayer
from ray_classy.registry import config_keys

TINY = {"num_blocks": [1, 1], "init_planes": 8}


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return sorted(tuple(p.shape) for name, p in model.named_parameters() if not name.startswith("fc."))


def blocks(model: ResNeXt) -> list[nn.Module]:
    return [block for stage in model.blocks for block in stage]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("resnet18", "resnet18"),
        ("resnet34", "resnet34"),
        ("resnet50", "resnet50"),
        ("resnet101", "resnet101"),
        ("resnet152", "resnet152"),
        ("resnext50_32x4d", "resnext50_32x4d"),
    ],
)
def test_named_trunks_have_torchvisions_parameters(name, reference):
    with torch.device("meta"):
        assert shapes(build_model({"name": name})) == shapes(torchvision.models.get_model(reference))


def test_resnet18_computes_what_torchvisions_does():
    ours, theirs = build_model({"name": "resnet18"}).eval(), torchvision.models.resnet18().eval()
    theirs.fc = theirs.avgpool = nn.Identity()
    values = iter(ours.state_dict().values())
    theirs.load_state_dict({key: next(values) for key in theirs.state_dict()})
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(ours(x).flatten(1), theirs(x))


def test_the_trunk_gives_a_feature_map():
    with torch.device("meta"):
        assert build_model({"name": "resnet50"})(torch.empty(2, 3, 224, 224)).shape == (2, 2048, 7, 7)


def test_a_head_on_the_last_block_of_resnet50():
    head = {"name": "fully_connected", "unique_id": "a", "in_plane": 2048, "num_classes": 10, "fork_block": "block3-2"}
    with torch.device("meta"):
        assert build_model({"name": "resnet50", "heads": [head]})(torch.empty(2, 3, 64, 64)).shape == (2, 10)


def test_blocks_are_named_by_stage_and_number():
    names = ResNet(**{**TINY, "num_blocks": [2, 1]}).attachable_block_names
    assert [name for name in names if name.startswith("block") and name != "blocks"] == [
        "block0-0",
        "block0-1",
        "block1-0",
    ]


def test_a_small_input_keeps_its_size_and_has_basic_blocks():
    model = ResNet(**TINY, small_input=True)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 64, 4, 4)
    assert not hasattr(blocks(model)[0], "conv3")
    assert model.input_shape == (3, 32, 32)


def test_basic_layers_reduce_nothing_by_default():
    assert ResNet(**TINY, basic_layer=True)(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 4, 4)


@pytest.mark.parametrize("reduction", [2, 3])
def test_reduction_sets_the_width_of_the_middle(reduction):
    model = ResNet([1, 1], init_planes=6, reduction=reduction)
    middle = [m.weight.shape[:2] for m in blocks(model)[1].modules() if getattr(m, "kernel_size", 0) == (3, 3)]
    assert middle == [(12, 12)]
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 12 * reduction, 4, 4)


def test_groups_double_their_width_each_stage():
    model = ResNeXt(**TINY, base_width_and_cardinality=(3, 4))
    widths = [m.weight.shape[:2] for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 4]
    assert widths == [(12, 3), (24, 6)]


def test_our_block_has_torchvisions_parameters_where_both_apply():
    ours = BottleneckLayer(8, 32, stride=2)
    theirs = torchvision.models.resnet.Bottleneck(
        8, 8, 2, nn.Sequential(nn.Conv2d(8, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
    )
    theirs.load_state_dict({key.removeprefix("branch."): value for key, value in ours.state_dict().items()})
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(ours(x), theirs(x))


def test_layers_are_built_as_in_classy_vision():
    layer = BottleneckLayer(8, 16, 2, (4, 2), final_bn_relu=False)
    assert (layer.branch.conv2.in_channels, layer.branch.conv2.groups, layer.branch.conv2.stride) == (8, 2, (2, 2))
    assert layer(torch.zeros(1, 8, 4, 4)).shape == BasicLayer(8, 16, 2)(torch.zeros(1, 8, 4, 4)).shape == (1, 16, 2, 2)
    own = GenericLayer(nn.Conv2d(8, 8, 1), 8, 8, use_se=True, se_reduction_ratio=4)
    assert [name for name, _ in own.branch.named_children()] == ["conv1", "bn1", "se"]


@pytest.mark.parametrize("arguments", [(-8, 16), (8, 0), (8, 16, "a"), (8, 16, 1, (0, 2))], ids=str)
def test_impossible_layers_are_refused(arguments):
    with pytest.raises(ComponentError, match="expected an integer of at least 1"):
        BottleneckLayer(*arguments)


def test_without_final_bn_relu_only_the_last_block_is_bare():
    model = ResNet(**TINY, final_bn_relu=False)
    first, last = blocks(model)
    assert isinstance(first, torchvision.models.resnet.Bottleneck)
    assert not hasattr(last.branch, "bn3")
    assert (model(torch.randn(2, 3, 32, 32)) < 0).any()


def test_squeeze_and_excitation_in_every_block():
    with_se, without = ResNet(**TINY, use_se=True, se_reduction_ratio=4), ResNet(**TINY)
    assert count_params(with_se) - count_params(without) == (2 * 32 * 8 + 40) + (2 * 64 * 16 + 80)
    assert with_se(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 4, 4)


@pytest.mark.parametrize("options", [{}, {"use_se": True}, {"basic_layer": True}], ids=str)
def test_zero_init_makes_each_block_its_shortcut(options):
    block = blocks(ResNet([2], init_planes=8, se_reduction_ratio=4, zero_init_bn_residuals=True, **options))[1]
    x = torch.rand(1, 8 if "basic_layer" in options else 32, 4, 4)
    assert torch.equal(block(x), x)


def test_named_models_zero_their_residuals_unless_told_otherwise():
    assert (blocks(build_model({"name": "resnet18"}))[0].bn2.weight == 0).all()
    assert (blocks(build_model({"name": "resnet18", "zero_init_bn_residuals": False}))[0].bn2.weight == 1).all()


def test_a_named_model_refuses_what_its_name_fixes():
    with pytest.raises(ComponentError, match="num_blocks cannot be given to ResNet18"):
        build_model({"name": "resnet18", "num_blocks": [1]})


def test_num_classes_is_accepted_without_effect():
    with torch.device("meta"):
        assert count_params(build_model({"name": "resnet18", "num_classes": 3})) == 11_176_512


def test_a_resnet_has_no_groups():
    with pytest.raises(ComponentError, match="resnext"):
        ResNet(**TINY, base_width_and_cardinality=(4, 32))


@pytest.mark.parametrize(
    "keys", [{"num_blocks": []}, {"num_blocks": [0]}, {"use_se": True, "se_reduction_ratio": 999}], ids=str
)
def test_impossible_arguments_are_refused(keys):
    with pytest.raises(ComponentError):
        ResNet(**{**TINY, **keys})


def test_config_keys_of_the_family():
    assert "base_width_and_cardinality" in config_keys(ResNet)
    named = config_keys(ResNeXt50)
    assert "num_blocks" not in named and "heads" in named
    assert named["zero_init_bn_residuals"].default is True


def test_the_state_carries_its_version_and_loads():
    model, other = ResNet(**TINY), ResNet(**TINY)
    state = model.get_classy_state()
    assert state["version"] == 0.2
    assert not other.set_classy_state(state)
    assert torch.equal(other.initial_block[0].weight, model.initial_block[0].weight)


@pytest.mark.parametrize(("version", "message"), [(0.1, "has version 0.1"), (None, "has no version")])
def test_a_state_of_another_version_is_refused(version, message):
    model = ResNet(**TINY)
    with pytest.raises(ValueError, match=message):
        model.set_classy_state({**model.get_classy_state(), "version": version})


def test_a_state_from_before_there_were_versions_loads():
    model, other = ResNet(**TINY), ResNet(**TINY)
    trunk = {}
    for name, value in model.get_classy_state()["model"]["trunk"].items():
        trunk[re.sub(r"blocks\.(\d+)\.block\d+-(\d+)\.", r"blocks.\1.\2._module.", name)] = value
    assert "blocks.1.0._module.conv1.weight" in trunk
    assert not other.set_classy_state({"model": {"trunk": trunk, "heads": {}}})
    assert torch.equal(other.blocks[1][0].conv1.weight, model.blocks[1][0].conv1.weight)


def test_a_slip_in_a_number_builds_no_endless_model():
    with pytest.raises(ComponentError, match="more than 10000"):
        build_model({"name": "resnet", "num_blocks": [1, 10**30]})


def test_named_models_are_found_in_the_module_of_resnext_too():
    from ray_classy.models import resnet, resnext

    assert resnext.ResNet50 is resnet.ResNet50 and resnext.ResNeXt101 is resnet.ResNeXt101
    with pytest.raises(AttributeError, match="ResNet51"):
        resnext.ResNet51  # noqa: B018


class Bare(ResNeXt):
    wrapper_cls = None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["trace", "script"])
def test_torchscript_has_its_outputs(kind):
    model = Bare([1], init_planes=4, small_input=True).eval()
    x = torch.ones(1, 3, 8, 8)
    with torch.no_grad():
        script = torch.jit.trace(model, x) if kind == "trace" else torch.jit.script(model)
        torch.testing.assert_close(script(x), model(x))
