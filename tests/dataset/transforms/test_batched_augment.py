import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from ray_classy.dataset.transforms import batched_operations as operations
from ray_classy.dataset.transforms import build_transform
from ray_classy.dataset.transforms.traits import batched_form
from ray_classy.errors import ComponentError, DataError
from ray_classy.seeding import row_uniforms

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (40, 3, 20, 24), dtype=torch.uint8, generator=GENERATOR)
IMAGES[1] = 7  # nothing to stretch or to equalize
IMAGES[2, :, :10] //= 4


def sheared(x, y):
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return lambda image: functional.affine(image, 0.0, [0, 0], 1.0, degrees, center=[0, 0])


EXACT = [
    ("translate_x", 3.0, lambda image: functional.affine(image, 0.0, [3, 0], 1.0, [0.0, 0.0])),
    ("translate_y", -2.0, lambda image: functional.affine(image, 0.0, [0, -2], 1.0, [0.0, 0.0])),
    ("brightness", 0.4, lambda image: functional.adjust_brightness(image, 1.4)),
    ("color", -0.5, lambda image: functional.adjust_saturation(image, 0.5)),
    ("contrast", 0.7, lambda image: functional.adjust_contrast(image, 1.7)),
    ("sharpness", 0.8, lambda image: functional.adjust_sharpness(image, 1.8)),
    ("posterize", 3.0, lambda image: functional.posterize(image, 3)),
    ("solarize", 100.0, lambda image: functional.solarize(image, 100)),
    ("autocontrast", 0.0, functional.autocontrast),
    ("equalize", 0.0, functional.equalize),
]
NEAR = [
    ("shear_x", 0.2, sheared(0.2, 0)),
    ("shear_y", -0.3, sheared(0, -0.3)),
    ("rotate", 25.0, lambda image: functional.rotate(image, 25.0, InterpolationMode.NEAREST)),
]


@pytest.mark.parametrize(("name", "magnitude", "torchvisions"), EXACT)
def test_an_operation_is_torchvisions(name, magnitude, torchvisions):
    ours = getattr(operations, name)(IMAGES, torch.full((40,), magnitude, dtype=torch.float64))
    theirs = torch.stack([torchvisions(image) for image in IMAGES])
    assert ours.dtype == torch.uint8 and (ours.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize(("name", "magnitude", "torchvisions"), NEAR)
def test_a_geometric_operation_takes_the_nearest_pixel_as_torchvisions_does(name, magnitude, torchvisions):
    ours = getattr(operations, name)(IMAGES, torch.full((40,), magnitude, dtype=torch.float64))
    theirs = torch.stack([torchvisions(image) for image in IMAGES])
    assert (ours == theirs).float().mean() > 0.97  # where two pixels are equally near, either may be taken


CASES = [
    {"name": "batched_rand_augment", "num_ops": 2, "magnitude": 9},
    {"name": "batched_trivial_augment"},
    {"name": "batched_random_resized_crop", "size": 16},
]


@pytest.mark.parametrize("config", CASES, ids=lambda config: config["name"])
def test_an_image_of_a_batch_becomes_what_it_becomes_alone(config):
    made = batched_form(build_transform(config))
    drawn = made.drawn(0, 0, np.arange(40), 0)
    kept = IMAGES.clone()
    whole = made.batch(IMAGES, drawn)
    assert torch.equal(IMAGES, kept) and not torch.equal(whole[5:], whole[:-5])
    assert torch.equal(whole, torch.stack([made.row(*one) for one in zip(IMAGES, drawn, strict=True)]))


def test_crops_are_parts_of_the_image():
    crop = build_transform({"name": "batched_random_resized_crop", "size": 8, "scale": [0.2, 0.6]})
    boxes = crop._boxes(row_uniforms(0, 0, np.arange(500), 0, crop.count), 20, 24)
    top, left, tall, wide = boxes
    assert (top >= 0).all() and (left >= 0).all() and (top + tall <= 20).all() and (left + wide <= 24).all()
    assert (tall * wide).min() / 480 > 0.15 and (tall * wide).max() / 480 < 0.65
    whole = build_transform({"name": "batched_random_resized_crop", "size": 20, "scale": [1, 1], "ratio": [1, 1]})
    square = IMAGES[..., :20]
    assert torch.equal(whole.of_batch(square, np.zeros((40, 22))), square)


def test_a_single_image_is_transformed_with_torchs_generator():
    augment = build_transform(CASES[1])
    torch.manual_seed(1)
    first = augment(IMAGES[0])
    torch.manual_seed(1)
    assert torch.equal(first, augment(IMAGES[0]))


@pytest.mark.parametrize(
    "config",
    [
        {"name": "batched_rand_augment", "num_ops": 0},
        {"name": "batched_rand_augment", "magnitude": 31},
        {"name": "batched_trivial_augment", "num_magnitude_bins": 1},
        {"name": "batched_random_resized_crop", "size": 0},
        {"name": "batched_random_resized_crop", "size": 8, "scale": [0.5, 0.1]},
    ],
)
def test_impossible_arguments(config):
    with pytest.raises(ComponentError, match=config["name"]):
        build_transform(config)


def test_what_is_no_image_of_bytes():
    with pytest.raises(DataError, match="batched_trivial_augment takes images of bytes"):
        build_transform(CASES[1])(IMAGES[0].float())
    with pytest.raises(DataError, match="put ToImage before it"):
        build_transform(CASES[1])("x")
