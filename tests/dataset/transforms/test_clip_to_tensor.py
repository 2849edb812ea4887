"""Clips as 3D models take them."""

import pytest
import torch

from ray_classy.dataset.transforms import build_transform, build_transforms
from ray_classy.errors import DataError


def test_frames_become_the_second_dimension_and_integers_fractions():
    clip = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    out = build_transform({"name": "clip_to_tensor"})(clip)
    assert out.dtype == torch.float32 and out.is_contiguous()
    torch.testing.assert_close(out, clip.permute(1, 0, 2, 3) / 255)


def test_floats_keep_their_values():
    clip = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    steps = [{"name": "ToDtype", "dtype": "float32", "scale": True}, {"name": "Normalize", "mean": [0.5], "std": [0.5]}]
    out = build_transforms([*steps, {"name": "clip_to_tensor"}])(clip)
    torch.testing.assert_close(out, clip.permute(1, 0, 2, 3) / 127.5 - 1)


def test_the_clip_is_not_changed():
    clip = torch.full((2, 3, 4, 6), 9, dtype=torch.uint8)
    build_transform({"name": "clip_to_tensor"})(clip)
    assert clip.dtype == torch.uint8 and (clip == 9).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3, 4, 6), r"not of shape \(3, 4, 6\)"),
        ([1], "not list"),
        (torch.zeros(2, 3, 4, 6, dtype=torch.int64), "not torch.int64"),
    ],
)
def test_values_that_are_not_clips_are_refused(value, message):
    with pytest.raises(DataError, match=message):
        build_transform({"name": "clip_to_tensor"})(value)
