import copy
import importlib
import re

import pytest
import torch
import torchvision

import ray_classy.models
from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.models import VisionTransformer, build_model
from ray_classy.models.vision_transformer import ConvStemLayer, ViTB16
from ray_classy.models.weights import load_weights, weights_of
from ray_classy.registry import config_keys
from tests.models.recorded_networks import OUTLINES, assert_same_outline, assert_same_outputs, recorded

SIZES = {"image_size": 16, "patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}
CASES = recorded("vision_transformer")


@pytest.mark.parametrize("name", CASES)
def test_weights_of_classy_vision_give_its_outputs(name):
    assert_same_outputs(CASES[name])


@pytest.mark.parametrize("name", [name for name in OUTLINES if name.startswith("vit")])
def test_named_networks_have_the_entries_of_classy_vision(name):
    assert_same_outline(name)


def test_the_stem_takes_layers_as_tuples_and_as_mappings():
    stem = VisionTransformer(
        **SIZES, conv_stem_layers=[ConvStemLayer(3, 4, 4), {"kernel": 1, "stride": 2, "out_channels": 6}]
    )
    assert stem.conv_stem_layers == [ConvStemLayer(3, 4, 4), ConvStemLayer(1, 2, 6)]
    assert stem(torch.zeros(2, 3, 16, 16)).shape == (2, 8)


@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_position_embeddings_of_another_image_size_are_interpolated(classifier):
    small = VisionTransformer(**SIZES, classifier=classifier)
    large = VisionTransformer(**{**SIZES, "image_size": 32}, classifier=classifier)
    state = small.get_classy_state(deep_copy=True)
    assert not large.set_classy_state(state)
    tokens = classifier == "token"
    given, found = (model.encoder.pos_embedding.detach() for model in (small, large))
    assert torch.equal(found[:tokens], given[:tokens])
    assert torch.allclose(found[tokens:].view(4, 4, 8)[::3, ::3], given[tokens:].view(2, 2, 8), atol=1e-6)
    assert state["model"]["trunk"]["encoder.pos_embedding"].shape == given.shape


@pytest.mark.parametrize("shape", [(8, 1, 8), (5, 1, 9)], ids=str)
def test_other_position_embeddings_are_refused(shape):
    model = VisionTransformer(**{**SIZES, "image_size": 32})
    state = model.get_classy_state(deep_copy=True)
    state["model"]["trunk"]["encoder.pos_embedding"] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=re.escape(f"encoder.pos_embedding: {shape} in the state")):
        model.set_classy_state(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 17}, "not a multiple of patch_size 8"),
        ({"num_heads": 3}, "hidden_dim 8 is not a multiple of num_heads 3"),
        ({"classifier": "mean"}, "choose 'token' or 'gap'"),
        ({"num_layers": 0}, "num_layers of a vision transformer is 0"),
        ({"num_layers": 10**9}, "more than 10000"),
        ({"mlp_dim": 1.5}, "mlp_dim of a vision transformer is 1.5"),
        ({"dropout_rate": 1.0}, "dropout_rate of a vision transformer is 1.0"),
        ({"conv_stem_layers": []}, "at least one layer"),
        ({"conv_stem_layers": [{"kernel": 3}]}, "expected the keys kernel, stride, out_channels"),
        ({"conv_stem_layers": [(3, 2, 4)]}, "do not multiply to patch_size 8"),
        ({"conv_stem_layers": [(4, 8, 4)]}, "expected an odd size"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(change, message):
    with pytest.raises(ComponentError, match=message):
        VisionTransformer(**{**SIZES, **change})


def test_images_of_another_size_are_refused():
    with pytest.raises(ComponentError, match=r"\(1, 3, 24, 24\); expected \(N, 3, 16, 16\)"):
        VisionTransformer(**SIZES)(torch.zeros(1, 3, 24, 24))


def test_a_name_fixes_the_sizes_and_leaves_the_rest():
    assert set(config_keys(ViTB16)) == {"image_size", "dropout_rate", "attention_dropout_rate", "classifier", "heads"}
    model = build_model({"name": "vit_b_16", "image_size": 32}, device="meta")
    assert model.input_shape == (3, 32, 32) and model.seq_length == 5


def test_weights_of_torchvision_give_its_outputs():
    theirs = torchvision.models.VisionTransformer(**SIZES, num_classes=3)
    torch.nn.init.normal_(theirs.heads.head.weight)
    head = {"name": "vision_transformer_head", "unique_id": "head", "fork_block": "trunk_output"}
    model = build_model({"name": "vision_transformer", **SIZES, "heads": [{**head, "in_plane": 8, "num_classes": 3}]})
    model.load_state_dict(model.own_names(copy.deepcopy(theirs.state_dict())))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.full
def test_weights_of_timm_give_its_outputs():
    timm = pytest.importorskip("timm")
    theirs = timm.models.VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=2, num_heads=2, mlp_ratio=1.5)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    head = {"name": "vision_transformer_head", "unique_id": "head", "fork_block": "trunk_output"}
    sizes = {**SIZES, "num_layers": 2, "heads": [{**head, "in_plane": 8, "num_classes": 3}]}
    model = build_model({"name": "vision_transformer", **sizes})
    load_weights(model, weights_of(theirs.state_dict()))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_lecun_normal_init_is_a_function_whichever_way_it_is_imported():
    module = importlib.import_module("ray_classy.models.lecun_normal_init")
    for function in (module.lecun_normal_init, ray_classy.models.lecun_normal_init):
        weights = torch.zeros(100, 100)
        assert function(weights, 25) is weights
        assert weights.std().item() == pytest.approx(0.2, rel=0.1)
