"""Transforms of whole batches give each row what torchvision gives it alone, to the last bit."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ray_classy.dataset.transforms import build_transform
from ray_classy.dataset.transforms.batched import BatchedTransforms
from ray_classy.dataset.transforms.traits import batched_form
from ray_classy.seeding import row_uniforms

ROWS = np.array([7, 3, 11, 4, 0, 2, 100, 5])
BYTES = torch.randint(0, 256, (8, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FLOATS = torch.rand(8, 3, 20, 30, generator=torch.Generator().manual_seed(1))


def step(name, **arguments):
    return batched_form(build_transform({"name": name, **arguments}))


def no_draws(images):
    return np.zeros((len(images), 0))


def as_image(row):
    return Image.fromarray(row.permute(1, 2, 0).numpy())


def test_to_tensor_of_bytes_is_that_of_the_image():
    made = step("ToTensor")
    whole = made.batch(BYTES.clone(), no_draws(BYTES))
    assert torch.equal(whole, torch.stack([made.transform(as_image(row)) for row in BYTES]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("scale", [True, False])
def test_to_dtype(dtype, scale):
    made = step("ToDtype", dtype=dtype, scale=scale)
    whole = made.batch(BYTES.clone(), no_draws(BYTES))
    assert torch.equal(whole, torch.stack([made.transform(row) for row in BYTES]))


@pytest.mark.parametrize("images", [FLOATS, FLOATS.double(), FLOATS[:, :1], FLOATS[:, None].expand(-1, 2, -1, -1, -1)])
def test_normalize(images):
    made = step("Normalize", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    expected = torch.stack([made.transform(row) for row in images])
    for _ in range(2):
        assert torch.equal(made.batch(images.clone(), no_draws(images)), expected)


def test_normalize_of_bytes_is_refused_as_by_torchvision():
    with pytest.raises(TypeError, match="float tensor"):
        step("Normalize", mean=[0.5], std=[0.5]).batch(BYTES.clone(), no_draws(BYTES))


@pytest.mark.parametrize("name", ["RandomHorizontalFlip", "RandomVerticalFlip"])
@pytest.mark.parametrize("images", [BYTES, FLOATS, FLOATS.bfloat16(), FLOATS.repeat(1, 1, 10, 10)])
def test_flips(name, images):
    made, sure = step(name, p=0.3), build_transform({"name": name, "p": 1.0})
    drawn = row_uniforms(0, 0, ROWS, 0, 1)
    whole = made.batch(images.clone(), drawn)
    assert 0 < (drawn < 0.3).sum() < 8
    for row, image, (one,) in zip(whole, images, drawn, strict=True):
        assert torch.equal(row, sure(image) if one < 0.3 else image)


@pytest.mark.parametrize(("value", "images"), [(0, FLOATS), (0.5, BYTES), ([0.1, 0.2, 0.3], FLOATS), (7, BYTES)])
def test_erasing_erases_a_box_of_the_right_size(value, images):
    made = step("RandomErasing", p=0.5, value=value)
    marked = step("RandomErasing", p=0.5, value=-1.0)
    drawn = row_uniforms(0, 0, np.arange(8), 0, made.draws)
    whole = made.batch(images.clone(), drawn)
    boxes = marked.batch(torch.ones(8, 1, 20, 30), drawn)[:, 0] < 0
    erased = 0
    for image, result, box, (top, left, tall, wide) in zip(
        images, whole, boxes, made._boxes(drawn, 20, 30).T, strict=True
    ):
        assert box.sum() == tall * wide and box[top : top + tall, left : left + wide].all()
        values = torch.tensor(made.transform.value)[:, None, None]
        assert torch.equal(result, v2.functional.erase(image, top, left, tall, wide, values) if tall else image)
        erased += tall > 0
        assert not tall or 0.02 * 600 * 0.8 < tall * wide < 0.33 * 600 * 1.2
    assert 0 < erased < 8


def test_erasing_with_another_number_of_values_than_channels_is_refused():
    with pytest.raises(ValueError, match="number of inpt channels"):
        step("RandomErasing", p=1.0, value=[1.0, 2.0]).batch(FLOATS.clone(), np.full((8, 23), 0.1))


def test_erasing_where_no_box_fits_erases_nothing():
    made = step("RandomErasing", p=1.0, scale=[1.0, 1.0], ratio=[1.0, 1.0])
    images = FLOATS[..., :20].clone()
    assert torch.equal(made.batch(images.clone(), row_uniforms(0, 0, ROWS, 0, 23)), images)


def everything():
    names = [("RandomHorizontalFlip", {}), ("ToTensor", {}), ("RandomVerticalFlip", {}), ("RandomErasing", {"p": 0.5})]
    names.append(("Normalize", {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}))
    return BatchedTransforms([step(name, **arguments) for name, arguments in names])


def test_a_row_gets_the_same_in_any_batch():
    batched = everything()
    whole = batched.batch(BYTES.clone(), 3, 1, ROWS)
    for position, row in enumerate(ROWS):
        alone = batched.batch(BYTES[position : position + 1].clone(), 3, 1, np.array([row]))
        assert torch.equal(alone[0], whole[position])
        assert torch.equal(batched.row(as_image(BYTES[position]), 3, 1, int(row)), whole[position])


def test_other_seeds_epochs_and_rows_draw_otherwise():
    batched = everything()
    made = [
        batched.batch(BYTES.clone(), seed, epoch, rows)
        for seed, epoch, rows in [(0, 0, ROWS), (1, 0, ROWS), (0, 1, ROWS), (0, 0, ROWS + 1)]
    ]
    assert not any(torch.equal(made[0], other) for other in made[1:])


def test_they_can_be_pickled_after_use():
    batched = everything()
    whole = batched.batch(BYTES.clone(), 0, 0, ROWS)
    assert torch.equal(pickle.loads(pickle.dumps(batched)).batch(BYTES.clone(), 0, 0, ROWS), whole)


class MyFlip(v2.RandomHorizontalFlip):
    pass


@pytest.mark.parametrize(
    "transform",
    [
        MyFlip(),
        v2.RandomErasing(value="random"),
        v2.ToDtype({torch.Tensor: torch.float32}),
        v2.ColorJitter(0.1),
        v2.RandomResizedCrop(8),
        lambda image: image,
    ],
)
def test_what_is_not_known_to_be_alike_in_batches_has_no_batched_form(transform):
    assert batched_form(transform) is None


def test_tensor_transforms_do_not_take_images():
    assert not batched_form(v2.Normalize([0.5], [0.5])).on_images and not batched_form(v2.RandomErasing()).on_images


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits():
    batched = everything()
    here, there = batched.batch(BYTES.clone(), 0, 0, ROWS), batched.batch(BYTES.cuda(), 0, 0, ROWS)
    assert torch.equal(here, there.cpu())
