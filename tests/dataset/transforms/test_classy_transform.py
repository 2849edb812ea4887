import copy
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
import torchvision.transforms
from PIL import Image

from ray_classy.dataset.transforms import (
    TRANSFORM_REGISTRY,
    ClassyTransform,
    build_transform,
    build_transforms,
    register_transform,
)
from ray_classy.errors import ComponentError, ConfigError, RegistrationError, UnknownComponentError
from ray_classy.registry import config_keys


@pytest.fixture
def image():
    torch.manual_seed(0)
    return Image.fromarray(torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8).numpy())


def test_name_of_torchvision(image):
    assert build_transform({"name": "CenterCrop", "size": 8})(image).size == (8, 8)


@pytest.mark.parametrize(
    ("name", "class_name"),
    [("random_horizontal_flip", "RandomHorizontalFlip"), ("to_pil_image", "ToPILImage"), ("rgb", "RGB")],
)
def test_name_in_snake_case(name, class_name):
    assert type(build_transform({"name": name})).__name__ == class_name


def test_registered_name_goes_before_torchvision(image):
    @register_transform("grayscale")
    class Grayscale(ClassyTransform):
        def __call__(self, image):
            return "mine"

    try:
        assert build_transform({"name": "grayscale"})(image) == "mine"
    finally:
        del TRANSFORM_REGISTRY._classes["grayscale"]


def test_class_of_another_base_is_registered(image):
    @register_transform("of_no_base")
    class OfNoBase:
        @classmethod
        def from_config(cls, config):
            return cls()

        def __call__(self, image):
            return "mine"

    try:
        assert build_transform({"name": "of_no_base"})(image) == "mine"
    finally:
        del TRANSFORM_REGISTRY._classes["of_no_base"]


def test_name_of_torchvision_is_refused():
    with pytest.raises(RegistrationError, match="torchvision has a class of that name"):
        register_transform("RandomHorizontalFlip")(object)


def test_to_tensor_equals_v1_without_a_warning(image):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform = build_transform({"name": "ToTensor"})
    assert torch.equal(transform(image), torchvision.transforms.ToTensor()(image))


def test_to_tensor_takes_the_images_of_a_sample(image):
    sample = build_transform({"name": "ToTensor"})({"input": image, "target": 3})
    assert sample["input"].shape == (3, 40, 50) and sample["target"] == 3


def test_interpolation_as_a_string(image):
    resize = build_transform({"name": "Resize", "size": 8, "interpolation": "bicubic"})
    assert resize.interpolation is torchvision.transforms.InterpolationMode.BICUBIC


def test_dtype_as_a_string(image):
    to_float = build_transforms([{"name": "ToImage"}, {"name": "ToDtype", "dtype": "float16", "scale": True}])
    assert to_float(image).dtype == torch.float16


@pytest.mark.parametrize(
    "config",
    [
        {"name": "Resize", "size": 8, "interpolation": "bilinar"},
        {"name": "ToDtype", "dtype": "float33"},
        {"name": "RandomHorizontalFlip", "p": 2.0},
        {"name": "CenterCrop"},
    ],
)
def test_impossible_argument_is_a_component_error(config):
    with pytest.raises(ComponentError):
        build_transform(config)


def test_unknown_argument_names_the_nearest():
    with pytest.raises(ComponentError, match="interpolation"):
        build_transform({"name": "Resize", "size": 8, "interpolaton": "bilinear"})


def test_unknown_name_names_the_nearest():
    with pytest.raises(UnknownComponentError, match="RandomHorizontalFlip"):
        build_transform({"name": "RandomHorizontlFlip"})


def test_transforms_inside_transforms(image):
    crop = {"name": "CenterCrop", "size": 8}
    assert build_transform({"name": "RandomApply", "transforms": [crop], "p": 1.0})(image).size == (8, 8)


def test_config_stays_as_it_is():
    config = [{"name": "apply_transform_to_key", "transforms": [{"name": "Resize", "size": [8, 8]}], "key": "input"}]
    before = copy.deepcopy(config)
    build_transforms(config)
    assert config == before


def test_composition_is_picklable(image):
    transform = build_transforms([{"name": "Resize", "size": 8}, {"name": "ToTensor"}])
    assert torch.equal(pickle.loads(pickle.dumps(transform))(image), transform(image))


def test_empty_list_changes_nothing(image):
    assert build_transforms([])(image) is image


@pytest.mark.parametrize("configs", [{"name": "ToTensor"}, "ToTensor", 3])
def test_no_list_is_a_config_error(configs):
    with pytest.raises(ConfigError, match="list"):
        build_transforms(configs)


def test_every_name_describes_its_keys():
    assert all(config_keys(TRANSFORM_REGISTRY.find(name)) is not None for name in TRANSFORM_REGISTRY.names())


def test_import_leaves_torchvision_alone():
    code = "import sys, ray_classy.dataset.transforms; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "imagenet_augment", "crop_size": 10**6},
        {"name": "Resize", "size": [4, 1 << 20]},
        {"name": "AugMix", "mixture_width": 10**6},
        {"name": "Pad", "padding": -(10**9)},
    ],
)
def test_integers_that_no_image_has_are_refused(config):
    (key,) = config.keys() - {"name"}
    with pytest.raises(ComponentError, match=f"{key} of {config['name']} is .*, and must be at most 65,536"):
        build_transform(config)


def test_a_number_of_classes_may_be_large():
    build_transform({"name": "MixUp", "num_classes": 100_000})


def test_configs_may_be_given_by_name():
    config = {"name": "CenterCrop", "size": 8}
    assert build_transform(transform_config=config).size == (8, 8)
    assert len(build_transforms(transforms_config=[config]).transforms) == 1
