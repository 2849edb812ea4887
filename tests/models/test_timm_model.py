import json
import re

import pytest
import torch

from ray_classy.config import check_config
from ray_classy.errors import CheckpointError, CheckpointNotFoundError, ComponentError, ConfigError
from ray_classy.models import MODEL_REGISTRY, build_model
from ray_classy.models.weights import weights_of

timm = pytest.importorskip("timm")
_VIT = {"name": "timm", "model": "test_vit", "num_classes": 4, "img_size": 32}
_IMAGES = torch.rand(2, 3, 32, 32)


def _network(model="test_vit", num_classes=4, **options):
    return timm.create_model(model, num_classes=num_classes, **options).eval()


def test_a_network_of_timm_has_a_classifier_of_the_given_size():
    model = build_model({**_VIT, "drop_path_rate": 0.1})
    assert model(_IMAGES).shape == (2, 4) and model.extract_features(_IMAGES).shape == (2, 64)
    assert model.input_shape == (3, 32, 32) and model.num_classes == 4


def test_a_head_takes_the_place_of_the_classifier():
    head = {"name": "fully_connected", "unique_id": "head", "num_classes": 3, "in_plane": 96}
    model = build_model({"name": "timm", "model": "test_resnet", "heads": [{**head, "fork_block": "trunk_output"}]})
    assert model(_IMAGES).shape == (2, 3) and model.num_classes is None


def test_layers_are_the_groups_of_timm_and_the_heads():
    model = build_model(_VIT, "meta")
    assert len(model.layer_groups()) == 1 + 6 + 1
    assert model.layer_of("model.pos_embed") == 0 and model.layer_of("model.head.weight") == 7


def test_weights_in_a_folder_of_timm_are_loaded(tmp_path):
    from timm.models import save_for_hf

    network = _network(img_size=32)
    save_for_hf(network, tmp_path, safe_serialization=True)
    model = build_model({**_VIT, "pretrained": str(tmp_path)}).eval()
    assert torch.equal(model(_IMAGES), network(_IMAGES))


def test_a_folder_of_another_network_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet"}))
    with pytest.raises(ComponentError, match="of the network 'test_resnet'"):
        build_model({**_VIT, "pretrained": str(tmp_path)}, "meta")


def test_weights_of_another_image_size_are_converted_by_timm(tmp_path):
    network = _network(num_classes=9, img_size=64)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "weights.pth")
    model = build_model({**_VIT, "pretrained": str(tmp_path / "weights.pth")})
    assert torch.equal(model.model.patch_embed.proj.weight, network.patch_embed.proj.weight)
    assert model.model.pos_embed.shape != network.pos_embed.shape and model(_IMAGES).shape == (2, 4)


def test_weights_under_names_that_timm_knows_are_converted(tmp_path):
    network = _network("test_convnext", num_classes=1000)
    former = {"stem.": "downsample_layers.0.", ".conv_dw.": ".dwconv.", ".mlp.fc": ".pwconv", "head.norm.": "norm."}
    weights = {}
    for name, value in network.state_dict().items():
        for own, other in {**former, "head.fc.": "head.", ".blocks.": "."}.items():
            name = name.replace(own, other)
        weights[re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)] = value
    torch.save(weights, tmp_path / "weights.pth")
    model = build_model({"name": "timm", "model": "test_convnext", "pretrained": str(tmp_path / "weights.pth")}).eval()
    assert torch.equal(model.extract_features(_IMAGES), network.forward_head(network.forward_features(_IMAGES), True))


def test_the_report_has_the_names_of_the_file(tmp_path):
    names = {f"model.{name}": value for name, value in _network(num_classes=9, img_size=64).state_dict().items()}
    content = {"state_dict": {**names, "criterion.weight": torch.ones(9)}}
    lines = build_model(_VIT).load_starting_weights(weights_of(content, "last.ckpt")).lines()
    assert lines[0] == "weights: last.ckpt, under the key state_dict"
    assert lines[2].startswith("  new          2 (of other classes than the file's): model.head.weight (4, 64), ")
    assert lines[3] == (
        "  not used     3 of the file: model.head.weight (9, 64), model.head.bias (9,), criterion.weight (9,)"
    )
    assert lines[4] == "  resized      1: model.pos_embed (1, 17, 64) to (1, 5, 64)"


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(_network("test_vit2").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="does not fit test_vit"):
        build_model({**_VIT, "pretrained": str(tmp_path / "weights.pth")})


def test_weights_of_the_hub_are_read_from_its_cache_folder(tmp_path, monkeypatch):
    network = _network(num_classes=1000)
    repository = tmp_path / "models--timm--test_vit.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    from safetensors.torch import save_file

    save_file(network.state_dict(), repository / "snapshots" / ("0" * 40) / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    model = build_model({"name": "timm", "model": "test_vit", "pretrained": True, "num_classes": 3})
    assert torch.equal(model.model.patch_embed.proj.weight, network.patch_embed.proj.weight)


def test_weights_that_cannot_be_downloaded_say_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointNotFoundError) as error:
        build_model({"name": "timm", "model": "test_resnet", "pretrained": True})
    for part in ("https://huggingface.co/timm/test_resnet", "`model.pretrained: PATH`"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "test_vitt"}, "did you mean 'test_vit'"),
        ({"model": "test_vit.nothing"}, "it has test_vit.r160_in1k"),
        ({"drop_path_rat": 0.1}, "did you mean 'drop_path_rate'"),
    ],
)
def test_the_check_of_a_config_knows_the_options_of_a_network(changed, message):
    with pytest.raises(ConfigError, match=message):
        check_config({"name": "timm", "model": "test_vit", **changed}, MODEL_REGISTRY)


def test_a_missing_package_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'ray_classy\[timm\]'"):
        build_model({"name": "timm", "model": "test_vit"})


_FAMILIES = (
    *("beit_base_patch16_224", "convnext_tiny", "crossvit_tiny_240", "deit_tiny_distilled_patch16_224", "densenet121"),
    *("efficientformer_l1", "efficientnet_b0", "eva02_tiny_patch14_224", "hrnet_w18", "levit_128", "mixer_b16_224"),
    *("maxvit_tiny_rw_224", "mobilenetv3_large_100", "mobilenetv4_conv_small", "mvitv2_tiny", "pit_ti_224", "vgg11"),
    *("poolformer_s12", "regnety_004", "resnet50", "resnetv2_50", "swin_tiny_patch4_window7_224", "test_byobnet"),
    *("swinv2_tiny_window8_256", "vit_small_patch16_224", "xcit_nano_12_p16_224"),
)


@pytest.mark.full
@pytest.mark.parametrize("name", _FAMILIES)
def test_networks_of_each_family_are_models(name):
    model = build_model({"name": "timm", "model": name, "num_classes": 7}, "meta")
    names = [parameter for group in model.layer_groups() for parameter in group]
    assert sorted(names) == sorted(parameter for parameter, _ in model.named_parameters())
    assert model.num_classes == 7 and len(model.layer_groups()) > 4
