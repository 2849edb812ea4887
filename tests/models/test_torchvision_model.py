import copy
import os

import pytest
import torch
import torchvision

from ray_classy.checkpoint import save_checkpoint
from ray_classy.config import check_config
from ray_classy.errors import CheckpointError, CheckpointNotFoundError, ComponentError, ConfigError
from ray_classy.models import MODEL_REGISTRY, ClassyModel, build_model
from ray_classy.models import torchvision_model as library
from ray_classy.models.weights import weights_of

_SMALL = {"name": "torchvision", "model": "mobilenet_v3_small", "num_classes": 4}
_HEAD = {"name": "fully_connected", "unique_id": "head", "num_classes": 3, "in_plane": 512}
_IMAGES = torch.rand(2, 3, 32, 32)


def _file(path, model="squeezenet1_1", num_classes=4, **entries):
    network = torchvision.models.get_model(model, num_classes=num_classes)
    torch.save({**network.state_dict(), **entries}, path)
    return network.eval()


def test_a_network_of_torchvision_has_a_classifier_of_the_given_size():
    assert build_model(_SMALL)(_IMAGES).shape == (2, 4)


def test_options_reach_the_constructor_of_the_network():
    model = build_model({**_SMALL, "model": "squeezenet1_1", "dropout": 0.25})
    assert model.model.classifier[0].p == 0.25


def test_a_head_takes_the_place_of_the_classifier():
    heads = [{**_HEAD, "fork_block": "trunk_output"}]
    model = build_model({"name": "torchvision", "model": "squeezenet1_1", "heads": heads})
    assert model(_IMAGES).shape == (2, 3) and model.num_classes is None
    assert not any("classifier" in name for name, _ in model.named_parameters())


def test_a_head_reads_a_block_of_the_network_by_its_path():
    head = {**_HEAD, "fork_block": "model.features.9", "in_plane": 384}
    assert build_model({"name": "torchvision", "model": "squeezenet1_1", "heads": [head]})(_IMAGES).shape == (2, 3)


def test_heads_and_a_size_of_the_classifier_are_refused_together():
    with pytest.raises(ComponentError, match="heads take its place"):
        build_model({**_SMALL, "heads": [{**_HEAD, "fork_block": "trunk_output"}]}, "meta")


def test_features_are_what_the_classifier_reads():
    model = build_model({**_SMALL, "model": "squeezenet1_1"})
    assert model.extract_features(_IMAGES).shape == (2, 512)


def test_an_unknown_option_fixed_by_the_name_is_named():
    with pytest.raises(ComponentError, match="growth_rate cannot be given to densenet121, whose name fixes it"):
        build_model({"name": "torchvision", "model": "densenet121", "growth_rate": 3}, "meta")


def test_a_state_is_loaded_into_a_copy_of_the_model():
    model = build_model({"name": "torchvision", "model": "mnasnet0_5", "num_classes": 2})  # its layers have a version
    other = build_model({"name": "torchvision", "model": "mnasnet0_5", "num_classes": 2})
    other.set_classy_state(copy.deepcopy(model.get_classy_state()))
    assert torch.equal(model.eval()(_IMAGES), copy.deepcopy(other).eval()(_IMAGES))


def test_networks_that_compute_while_they_are_built_are_built_on_the_meta_device():
    model = build_model({"name": "torchvision", "model": "regnet_y_400mf", "num_classes": 2}, "meta")
    assert {value.device.type for value in model.state_dict().values()} == {"meta"}


def test_weights_of_a_file_are_loaded_with_the_classifier_of_its_size(tmp_path):
    network = _file(tmp_path / "weights.pth")
    model = build_model({**_SMALL, "model": "squeezenet1_1", "weights": str(tmp_path / "weights.pth")}).eval()
    assert torch.equal(model(_IMAGES), network(_IMAGES))


def test_a_classifier_of_another_size_is_new(tmp_path):
    network = _file(tmp_path / "weights.pth", num_classes=7)
    model = build_model({**_SMALL, "model": "squeezenet1_1", "weights": str(tmp_path / "weights.pth")})
    assert torch.equal(model.model.features[0].weight, network.features[0].weight)
    assert model(_IMAGES).shape == (2, 4)


def test_default_weights_are_read_from_the_cache_folder_of_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    os.makedirs(tmp_path / "hub" / "checkpoints")
    network = _file(tmp_path / "hub" / "checkpoints" / os.path.basename(entry.url), num_classes=1000)
    model = build_model({"name": "torchvision", "model": "squeezenet1_1", "weights": "DEFAULT"}).eval()
    assert torch.equal(model(_IMAGES), network(_IMAGES))


def test_weights_that_cannot_be_downloaded_say_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    with pytest.raises(CheckpointNotFoundError) as error:
        build_model({"name": "torchvision", "model": "resnet18", "weights": "IMAGENET1K_V1"})
    place = str(tmp_path / "hub/checkpoints/resnet18-f37072fd.pth")
    for part in (place, "https://download.pytorch.org", "model.weights"):
        assert part in str(error.value)
    assert not list((tmp_path / "hub/checkpoints").iterdir())


def _no_network(*args, **kwargs):
    raise OSError("no route to host")


def test_a_wrong_name_of_weights_is_an_error_with_the_nearest():
    with pytest.raises(ComponentError, match="did you mean 'IMAGENET1K_V2' or 'IMAGENET1K_V1'"):
        build_model({"name": "torchvision", "model": "resnet50", "weights": "IMAGENET1K_V3"}, "meta")


def test_weights_of_another_network_are_refused(tmp_path):
    _file(tmp_path / "weights.pth", "squeezenet1_0")
    with pytest.raises(CheckpointError, match="does not fit squeezenet1_1"):
        build_model({**_SMALL, "model": "squeezenet1_1", "weights": str(tmp_path / "weights.pth")})


def test_weights_of_a_run_leave_the_classifier_new(tmp_path):
    model = build_model({**_SMALL, "model": "squeezenet1_1"})
    state = {"base_model": model.get_classy_state()}
    content = {"input_args": {"config": {"model": {**_SMALL, "model": "squeezenet1_1"}}}, "classy_state_dict": state}
    path = save_checkpoint(str(tmp_path), content)
    other = build_model({**_SMALL, "model": "squeezenet1_1", "weights": path})
    assert torch.equal(other.model.features[0].weight, model.model.features[0].weight)
    assert not torch.equal(other.model.classifier[1].weight, model.model.classifier[1].weight)
    assert torch.equal(ClassyModel.from_checkpoint(path).model.classifier[1].weight, model.model.classifier[1].weight)


def test_positions_of_a_vision_transformer_are_resized():
    sizes = {"patch_size": 16, "num_layers": 1, "num_heads": 1, "hidden_dim": 4, "mlp_dim": 4, "num_classes": 2}
    small, large = (torchvision.models.VisionTransformer(image_size=size, **sizes) for size in (32, 64))
    model = library.TorchvisionModel.__new__(library.TorchvisionModel)
    library.LibraryModel.__init__(model, large, "vit", ["heads.head"], (3, 64, 64))
    model._layers_of_classifier = ("heads.head",)
    model.load_starting_weights(weights_of(small.state_dict()))
    assert torch.equal(model.model.conv_proj.weight, small.conv_proj.weight)
    assert torch.equal(model.model.encoder.pos_embedding[:, 0], small.encoder.pos_embedding[:, 0])


def test_weights_for_another_image_size_set_it():
    model = build_model(
        {"name": "torchvision", "model": "vit_b_16", "weights": "IMAGENET1K_SWAG_E2E_V1", "num_classes": 2}, "meta"
    )
    assert model.input_shape == (3, 384, 384)


def test_old_names_of_dense_layers_are_known():
    model = build_model({"name": "torchvision", "model": "densenet121", "num_classes": 2}, "meta")
    new = "features.denseblock1.denselayer1.norm1.weight"
    assert list(model.converted({new.replace("norm1", "norm.1"): 0})) == [new]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "resnet81"}, "did you mean 'resnet18'"),
        ({"zero_init_residuals": True}, "did you mean 'zero_init_residual'"),
        ({"groups": "many"}, "expected an integer"),
    ],
)
def test_the_check_of_a_config_knows_the_options_of_a_network(changed, message):
    with pytest.raises(ConfigError, match=message):
        check_config({"name": "torchvision", "model": "resnet18", **changed}, MODEL_REGISTRY)


def test_auxiliary_classifiers_are_refused():
    with pytest.raises(ComponentError, match="aux_logits"):
        build_model({"name": "torchvision", "model": "googlenet", "aux_logits": True}, "meta")


@pytest.mark.full
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_classification_network_is_a_model(name):
    model = build_model({"name": "torchvision", "model": name, "num_classes": 7}, "meta")
    names = [parameter for group in model.layer_groups() for parameter in group]
    assert sorted(names) == sorted(parameter for parameter, _ in model.named_parameters())
    assert model.num_classes == 7 and len(model.layer_groups()) > 7
    heads = [{"name": "identity", "unique_id": "h", "fork_block": "trunk_output"}]
    features = build_model({"name": "torchvision", "model": name, "heads": heads}, "meta").eval()
    assert features(torch.zeros(2, *features.input_shape, device="meta")).ndim == 2
