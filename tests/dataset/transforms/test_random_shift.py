import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from ray_classy.dataset.transforms import build_transform
from ray_classy.dataset.transforms.random_shift import shifted
from ray_classy.dataset.transforms.traits import batched_form
from ray_classy.errors import ComponentError, DataError
from ray_classy.seeding import row_uniforms

IMAGES = torch.rand(40, 3, 5, 7)


def test_an_image_is_a_crop_of_itself_padded_by_reflection():
    padded = pad(IMAGES, (2, 2, 2, 2), mode="reflect")
    for down, right in ((0, 0), (2, -1), (-2, 2)):
        moved = shifted(IMAGES, torch.tensor([down]), torch.tensor([right]))
        assert torch.equal(moved, padded[..., 2 - down : 7 - down, 2 - right : 9 - right])


def test_rows_of_a_batch_have_shifts_of_their_own_and_those_that_they_have_alone():
    made = batched_form(build_transform({"name": "random_shift", "pixels": 1}))
    drawn = row_uniforms(0, 0, np.arange(40), 0, 2)
    whole = made.batch(IMAGES, drawn)
    assert torch.equal(whole, torch.stack([made.row(*one) for one in zip(IMAGES, drawn, strict=True)]))
    found = {tuple(move) for move in (drawn * 3).astype(int)}
    assert len(found) == 9 and torch.equal(whole[0], shifted(IMAGES[:1], *torch.tensor(drawn[:1] * 3).long().T - 1)[0])


def test_bytes_and_single_images_are_shifted():
    image = torch.arange(30, dtype=torch.uint8).view(1, 5, 6)
    torch.manual_seed(0)
    results = [build_transform({"name": "random_shift", "pixels": 2})(image) for _ in range(9)]
    assert {result.dtype for result in results} == {torch.uint8} and len(
        {result.sum().item() for result in results}
    ) > 2


@pytest.mark.parametrize("pixels", [0, 1.5, True])
def test_impossible_shifts_are_refused(pixels):
    with pytest.raises(ComponentError, match="pixels of random_shift"):
        build_transform({"name": "random_shift", "pixels": pixels})


@pytest.mark.parametrize(
    ("image", "told"), [(IMAGES[0], "5 x 7 pixels cannot be shifted by 5"), ("x", "takes tensors")]
)
def test_an_image_that_cannot_be_shifted_is_named(image, told):
    with pytest.raises(DataError, match=told):
        build_transform({"name": "random_shift", "pixels": 5})(image)
