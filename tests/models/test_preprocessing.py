import PIL.Image
import pytest
import torch
import torchvision

from ray_classy.dataset.transforms import build_transform, build_transforms
from ray_classy.dataset.transforms.placement import place
from ray_classy.errors import ComponentError
from ray_classy.models import MODEL_REGISTRY
from ray_classy.tasks.preprocessing import with_preprocessing

_IMAGE = PIL.Image.effect_noise((300, 260), 80).convert("RGB")


def preprocessing(**config):
    return MODEL_REGISTRY[config["name"]].preprocessing(config)


@pytest.mark.parametrize("model", ["convnext_tiny", "inception_v3", "regnet_y_16gf", "efficientnet_b0"])
def test_a_test_image_is_prepared_as_in_torchvision(model):
    found = preprocessing(name="torchvision", model=model, weights="DEFAULT")
    expected = torchvision.models.get_model_weights(model).DEFAULT.transforms()(_IMAGE)
    torch.testing.assert_close(build_transforms(found.transforms(train=False))(_IMAGE), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("model", ["test_vit", "convnext_tiny", "vit_base_patch16_siglip_224", "resnet50.a1_in1k"])
def test_a_test_image_is_prepared_as_in_timm(model):
    timm = pytest.importorskip("timm")
    cfg = timm.models.get_pretrained_cfg(model).to_dict()
    expected = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=cfg))(_IMAGE)
    found = preprocessing(name="timm", model=model)
    torch.testing.assert_close(build_transforms(found.transforms(train=False))(_IMAGE), expected, atol=0.05, rtol=0)


def test_a_train_image_is_cropped_flipped_and_normalised_on_the_device():
    found = preprocessing(name="torchvision", model="resnet18")
    transform = build_transforms(found.transforms(train=True))
    assert transform(_IMAGE).shape == (3, 224, 224) and transform(_IMAGE).min() < 0


def test_our_models_have_the_values_of_imagenet():
    found = preprocessing(name="resnet50")
    assert (found.size, found.resize, found.interpolation) == ((224, 224), 256, "bilinear")
    assert preprocessing(name="vit_b_16", image_size=64).size == (64, 64)


def test_the_part_of_an_image_that_is_cropped_is_the_same_at_another_size():
    found = preprocessing(name="torchvision", model="convnext_tiny").of_size(112)
    assert found.size == (112, 112) and found.resize == 118


def test_an_image_size_of_the_config_is_that_of_the_images():
    pytest.importorskip("timm")
    assert preprocessing(name="timm", model="test_vit", img_size=64).size == (64, 64)


def test_the_config_has_ordinary_transforms_in_its_place():
    entry = {"name": "model_preprocessing"}
    config = {
        "model": {"name": "resnet50"},
        "dataset": {
            "train": {"transforms": [{"name": "generic_image_transform", "transforms": [entry, {"name": "RGB"}]}]},
            "test": {"transforms": [{**entry, "train": True, "size": 32}]},
        },
    }
    found = with_preprocessing(config)["dataset"]
    inner = found["train"]["transforms"][0]["transforms"]
    assert [one["name"] for one in inner] == [
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        "ToTensor",
        "Normalize",
        "RGB",
    ]
    assert found["test"]["transforms"][0] == {"name": "RandomResizedCrop", "size": 32, "interpolation": "bilinear"}
    assert config["dataset"]["test"]["transforms"] == [{**entry, "train": True, "size": 32}]


def test_its_end_runs_in_batches():
    transforms = preprocessing(name="resnet50").transforms(train=True)
    wrapped = build_transform({"name": "apply_transform_to_key", "key": "input", "transforms": transforms})
    assert place(wrapped).names() == (["RandomResizedCrop"], ["RandomHorizontalFlip", "ToTensor", "Normalize"])


def test_outside_of_a_task_it_cannot_be_built():
    with pytest.raises(ComponentError, match="depends on the model of a task"):
        build_transform({"name": "model_preprocessing"})
