"""Which parts of a model fsdp gathers by themselves."""

from torch import nn

from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel, build_model
from ray_classy.tasks.sharding import SMALLEST_BLOCK, blocks

LARGE = 300  # a square layer of so many features is large enough


def names(model):
    found = list(blocks(model))
    return [name for name, module in model.named_modules() if any(module is block for block in found)]


def test_residual_blocks_and_large_heads():
    model = build_model({"name": "resnet", "num_blocks": [1, 2, 1, 2]})
    model.set_heads({"block3-1": [FullyConnectedHead("head", 1000, in_plane=2048)]})
    found = names(model)
    residual = {"block0-0", "block1-0", "block1-1", "block2-0", "block3-0", "block3-1"}
    assert {name.rsplit(".", 1)[-1] for name in found} == {*residual, "0"} and "_heads.0" in found
    assert all(sum(p.numel() for p in block.parameters()) >= SMALLEST_BLOCK for block in blocks(model))


def test_layers_of_an_adapted_module():
    layers = [nn.Linear(LARGE, LARGE), nn.ReLU(), nn.Linear(LARGE, 4), nn.Sequential(nn.Linear(LARGE, LARGE))]
    assert names(ClassyModel.from_model(nn.Sequential(*layers))) == ["model.0", "model.3.0"]


def test_parts_of_torchs_modules_are_left_together():
    attention = nn.MultiheadAttention(LARGE, 4)
    assert names(nn.ModuleDict({"attention": attention})) == ["attention"]


def test_parameters_that_two_modules_share_are_left_with_the_whole():
    first, second, third = (nn.Linear(LARGE, LARGE) for _ in range(3))
    second.weight = first.weight
    assert names(nn.Sequential(first, second, third)) == ["2"]


def test_a_module_that_is_there_twice_is_one_block():
    layer = nn.Linear(LARGE, LARGE)
    assert len(list(blocks(nn.Sequential(nn.Sequential(layer), nn.Sequential(layer))))) == 1
