"""Classes of torch and torchvision, whose signatures were not written to be checked."""

import inspect
from typing import Any

import pytest
import torch
import torchvision.transforms.v2 as v2
from torch.nn.modules import loss

from ray_classy.config import check_component, dump_yaml, resolve
from ray_classy.config.check import component_keys
from ray_classy.config.resolve import _is_plain
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.registry import REQUIRED, Registry

LOSSES = {name: cls for name, cls in vars(loss).items() if inspect.isclass(cls) and name.endswith("Loss")}
TRANSFORMS = {name: cls for name, cls in vars(v2).items() if inspect.isclass(cls) and issubclass(cls, torch.nn.Module)}
FOREIGN: Registry[Any] = Registry("toy_foreign", fallback=lambda name: {**LOSSES, **TRANSFORMS}.get(name))


def problems(name, **arguments):
    return [one.message for one in check_component(FOREIGN, {"name": name, **arguments})]


def test_there_are_many_of_them():
    assert len(LOSSES) > 20
    assert len(TRANSFORMS) > 50


@pytest.mark.parametrize("name", [*LOSSES, *TRANSFORMS])
def test_defaults_written_out_are_accepted(name):
    keys = component_keys({**LOSSES, **TRANSFORMS}[name])
    defaults = {name: key.default for name, key in keys.items()}
    written = {name: list(d) if isinstance(d, tuple) else d for name, d in defaults.items() if _is_plain(d)}
    missing = [name for name, default in defaults.items() if default is REQUIRED]
    assert problems(name, **written) == [message for message in problems(name) if message.startswith("missing")]
    assert len(problems(name)) == len(missing)


@pytest.mark.parametrize("name", [*LOSSES, *TRANSFORMS])
def test_nonsense_is_judged_without_a_crash(name):
    keys = component_keys({**LOSSES, **TRANSFORMS}[name])
    for nonsense in ("?", None, [], {}, [{"a": [None]}], object()):
        problems(name, **dict.fromkeys(keys, nonsense))
    assert any(message.startswith("unknown key") for message in problems(name, nonsense=1))


@pytest.mark.parametrize("name", [*LOSSES, *TRANSFORMS])
def test_resolved_configs_can_be_written_and_are_accepted(name):
    keys = component_keys({**LOSSES, **TRANSFORMS}[name])
    if any(key.default is REQUIRED for key in keys.values()):
        return
    resolved = resolve({"name": name}, FOREIGN)
    assert parse_yaml(dump_yaml(resolved), "f")[0] == resolved
    assert check_component(FOREIGN, resolved) == []


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("CrossEntropyLoss", {"weight": [0.5, 1, 2], "label_smoothing": 0.1, "reduction": "sum"}),
        ("BCEWithLogitsLoss", {"pos_weight": [1, 2.0], "weight": None}),
        ("TripletMarginLoss", {"margin": 2, "p": 1}),
        ("CTCLoss", {"blank": 1, "zero_infinity": True}),
        ("HuberLoss", {"delta": 1}),
        ("TripletMarginWithDistanceLoss", {"distance_function": None, "swap": True}),
        ("RandomResizedCrop", {"size": 224}),
        ("RandomResizedCrop", {"size": [224, 192], "scale": [0.2, 1], "interpolation": "bicubic", "antialias": True}),
        ("Normalize", {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1], "inplace": True}),
        ("ColorJitter", {"brightness": 0.4}),
        ("ColorJitter", {"brightness": [0.6, 1.4], "hue": 0}),
        ("RandomRotation", {"degrees": 15}),
        ("RandomRotation", {"degrees": [-15, 15.5], "fill": [0, 0, 0], "center": [1, 2]}),
        ("RandomErasing", {"p": 0.1}),
        ("RandomErasing", {"value": "random"}),
        ("RandomErasing", {"value": [0, 0.5, 1]}),
        ("Resize", {"size": [32, 32]}),
        ("Resize", {"size": 32, "interpolation": 2, "max_size": 64}),
        ("Pad", {"padding": [1, 2], "fill": 127, "padding_mode": "reflect"}),
        ("RandomCrop", {"size": 32, "padding": 4}),
        ("RandomHorizontalFlip", {"p": 1}),
        ("RandomAffine", {"degrees": 5, "translate": [0.1, 0.1], "shear": [1, 2, 3, 4]}),
        ("GaussianBlur", {"kernel_size": 3, "sigma": [0.1, 2]}),
        ("ToDtype", {"dtype": "float32", "scale": True}),
        ("ToDtype", {"dtype": {"Image": "float32", "others": None}}),
        ("ConvertImageDtype", {"dtype": "torch.float16"}),
        ("AutoAugment", {"policy": "cifar10"}),
        ("RandAugment", {"num_ops": 2, "magnitude": 9, "fill": [1, 2, 3]}),
        ("MixUp", {"alpha": 0.2, "num_classes": 10}),
        ("Compose", {"transforms": [{"name": "ToImage"}]}),
        ("RandomApply", {"transforms": [{"name": "ToImage"}], "p": 0.3}),
        ("LinearTransformation", {"transformation_matrix": [[1, 0], [0, 1]], "mean_vector": [0, 0]}),
        ("SanitizeBoundingBoxes", {"labels_getter": None}),
    ],
)
def test_arguments_in_use_are_accepted(name, arguments):
    assert problems(name, **arguments) == []


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("CrossEntropyLoss", {"label_smoothing": "0.1"}, "expected a number, not '0.1'; write 0.1 without quotes"),
        (
            "CrossEntropyLoss",
            {"weight": ["a"]},
            "expected a number or a (nested) list of numbers, 'balanced' or null, not [\"a\"]",
        ),
        ("Normalize", {"mean": 0.5, "std": [1]}, "expected a list of numbers, not 0.5; write [0.5]"),
        (
            "Resize",
            {"size": "32"},
            "expected an integer, a list of integers or null, not '32'; write 32 without quotes",
        ),
        (
            "Pad",
            {"padding": 1, "padding_mode": "zero"},
            "expected one of 'constant', 'edge', 'reflect', 'symmetric', not 'zero'",
        ),
    ],
)
def test_wrong_arguments_are_told(name, arguments, message):
    assert problems(name, **arguments) == [message]
