import numpy as np
import torch
from PIL import Image

from ray_classy.dataset.transforms import build_transform
from ray_classy.dataset.transforms.batched import BatchedTransforms
from ray_classy.dataset.transforms.traits import batched_form, is_thread_safe

IMAGES = torch.arange(64 * 6, dtype=torch.uint8).view(64, 1, 2, 3)
ROWS = np.arange(64) * 3


def in_epoch(epoch, rows=ROWS):
    steps = BatchedTransforms([batched_form(build_transform({"name": "alternating_flip"}))])
    return steps.batch(IMAGES.clone(), 0, epoch, rows)


def test_every_image_is_mirrored_in_every_other_epoch():
    flipped = (in_epoch(0) != IMAGES).flatten(1).any(1)
    assert 20 < flipped.sum() < 44
    assert torch.equal(in_epoch(1), torch.where(flipped.view(-1, 1, 1, 1), IMAGES, IMAGES.flip(-1)))
    assert torch.equal(in_epoch(2), in_epoch(0))


def test_a_row_alone_is_mirrored_as_in_its_batch():
    steps = BatchedTransforms([batched_form(build_transform({"name": "alternating_flip"}))])
    rows = [steps.row(image, 0, 1, row) for image, row in zip(IMAGES, ROWS.tolist(), strict=True)]
    assert torch.equal(torch.stack(rows), in_epoch(1))


def test_without_an_epoch_images_are_mirrored_at_random():
    flip, image = (
        build_transform({"name": "alternating_flip"}),
        Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    )
    torch.manual_seed(0)
    found = {flip(image).tobytes() for _ in range(20)}
    assert len(found) == 2 and is_thread_safe(flip)
