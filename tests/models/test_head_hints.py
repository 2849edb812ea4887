import pytest

from ray_classy.config import load_config
from ray_classy.errors import ComponentError, ConfigError, UnknownComponentError
from ray_classy.models import build_model
from ray_classy.models.head_hints import hint_at
from ray_classy.tasks.task_config import checked

RESNET = {"name": "resnet", "num_blocks": [1, 1], "init_planes": 16, "small_input": True, "basic_layer": True}
HEAD = {"name": "fully_connected", "unique_id": "a", "num_classes": 3}


def hint(key, model=RESNET, **head):
    return hint_at({"model": {**model, "heads": [{**HEAD, **head}]}}, ("model", "heads", 0, key))


def test_the_blocks_are_named_with_their_channels():
    assert "blocks of this model are initial_block (16 channels), " in hint("fork_block")
    assert "block0-0 (16 channels), block1-0 (32 channels)" in hint("fork_block")


def test_the_channels_of_the_block_are_named():
    assert hint("in_plane", fork_block="block1-0") == "; block 'block1-0' has 32 channels"


@pytest.mark.parametrize("model", [{"name": "nothing"}, {"name": "resnet", "num_blocks": 3}, "resnet", None])
def test_a_model_with_other_mistakes_has_no_hint(model):
    config = {"model": {**model, "heads": [HEAD]} if isinstance(model, dict) else model}
    assert hint_at(config, ("model", "heads", 0, "fork_block")) == ""
    assert hint("in_plane") == hint("in_plane", fork_block=["x"]) == hint("unique_id") == ""


def test_of_many_blocks_the_last_are_named():
    text = hint("fork_block", {"name": "resnet50"})
    assert "..., block0-0" in text and text.endswith("block3-2 (2048 channels)")


def test_the_error_of_a_config_has_the_hint():
    config = dict(load_config("configs/digits.yaml"))
    config["model"]["heads"] = [{**HEAD, "in_plane": 32}]
    with pytest.raises(ConfigError, match=r"heads\.0\.fork_block: missing; .*the blocks of this model are .*block1-0"):
        checked(config)


def test_an_unknown_block_is_told_the_blocks():
    with pytest.raises(UnknownComponentError, match=r"its blocks are initial_block, .*block1-0"):
        build_model({**RESNET, "heads": [{**HEAD, "in_plane": 3, "fork_block": "xyz"}]})


def test_a_head_of_another_width_than_its_block_says_which():
    import torch

    model = build_model({**RESNET, "heads": [{**HEAD, "in_plane": 3, "fork_block": "block1-0"}]})
    with pytest.raises(ComponentError, match="head 'a' reads 32 channels, and its in_plane is 3: set in_plane to 32"):
        model(torch.zeros(2, 3, 8, 8))


def test_the_channels_behind_a_network_of_torchvision_are_those_without_its_classifier():
    model = {"name": "torchvision", "model": "squeezenet1_1"}
    assert hint("in_plane", model, fork_block="trunk_output") == "; block 'trunk_output' has 512 channels"
