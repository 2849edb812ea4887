"""Transforms of clips and their sound."""

import pytest
import torch

from ray_classy.dataset.transforms import build_transform
from ray_classy.dataset.transforms.traits import is_thread_safe
from ray_classy.dataset.transforms.util_video import (
    VideoClipRandomResizeCrop,
    VideoClipResize,
    VideoConstants,
    VideoDefaultAugmentTransform,
    VideoDefaultNoAugmentTransform,
    build_video_field_transform_default,
)
from ray_classy.errors import ComponentError, DataError, UnknownComponentError

CLIP = (torch.arange(3 * 2 * 10 * 12) % 251).float().reshape(3, 2, 10, 12)
FRAMES = (torch.arange(2 * 10 * 12 * 3) % 251).to(torch.uint8).reshape(2, 10, 12, 3)


def test_a_clip_is_resized_to_its_shorter_side():
    clip = VideoClipResize(5)(CLIP)
    assert clip.shape == (3, 2, 5, 6) and clip.flatten()[:3].tolist() == [6.5, 8.5, 10.5]
    assert VideoClipResize(5, "nearest")(CLIP).flatten()[:3].tolist() == [0, 2, 4]


def test_a_random_part_of_a_resized_clip():
    crop = VideoClipRandomResizeCrop([4, 6], [6, 9])
    torch.manual_seed(0)
    clips = [crop(CLIP) for _ in range(8)]
    assert {clip.shape for clip in clips} == {(3, 2, 4, 6)} and len({float(clip.sum()) for clip in clips}) > 4
    assert crop.crop_size == (4, 6) and is_thread_safe(crop)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_default_transforms_of_a_sample(split):
    transform = build_video_field_transform_default(None, split)
    sample = transform((torch.zeros(4, 150, 170, 3, dtype=torch.uint8), torch.rand(7, 1), 1))
    size = (112, 112) if split == "train" else (128, 145)
    assert sample["input"]["video"].shape == (3, 4, *size) and sample["input"]["audio"].shape == (0, 1)
    assert sample["target"] == 1 and is_thread_safe(transform)


def test_a_named_sample_keeps_its_form():
    config = {"video": [{"name": "ToTensorVideo"}, {"name": "center_crop_video", "crop_size": 6}]}
    transform = build_video_field_transform_default(config, "test")
    sample = transform({"input": {"video": FRAMES, "audio": torch.rand(7, 1)}, "target": 2})
    assert sample["input"]["video"].shape == (3, 2, 6, 6) and sample["input"]["audio"].shape == (0, 1)


def test_samples_are_normalised_channel_by_channel():
    clip = VideoDefaultNoAugmentTransform(10)(FRAMES)
    want = (FRAMES[1, 2, 3, 1] / 255 - VideoConstants.MEAN[1]) / VideoConstants.STD[1]
    assert clip[1, 1, 2, 3] == pytest.approx(want.item(), abs=1e-6)
    assert VideoDefaultAugmentTransform(crop_size=4, size_range=(5, 8))(FRAMES).shape == (3, 2, 4, 4)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"name": "RandomCropVideo", "size": 4}, (3, 2, 4, 4)),
        ({"name": "random_crop_video", "size": [4, 6]}, (3, 2, 4, 6)),
        ({"name": "RandomResizedCropVideo", "size": 5}, (3, 2, 5, 5)),
        ({"name": "CenterCropVideo", "crop_size": 8}, (3, 2, 8, 8)),
        ({"name": "NormalizeVideo", "mean": [0, 0, 0], "std": [1, 1, 2]}, (3, 2, 10, 12)),
        ({"name": "RandomHorizontalFlipVideo", "p": 1.0}, (3, 2, 10, 12)),
    ],
)
def test_transforms_of_clips_by_their_former_names(config, shape):
    assert build_transform(config)(CLIP).shape == shape


def test_a_flip_mirrors_every_frame():
    assert torch.equal(build_transform({"name": "random_horizontal_flip_video", "p": 1.0})(CLIP), CLIP.flip(-1))
    assert torch.equal(build_transform({"name": "RandomHorizontalFlipVideo", "p": 0.0})(CLIP), CLIP)


@pytest.mark.parametrize("size_range", [[5, 4], [4, 5, 6], 4, [0, 3]])
def test_impossible_size_ranges(size_range):
    with pytest.raises(ComponentError, match="size_range"):
        VideoClipRandomResizeCrop(4, size_range)


def test_mistakes():
    with pytest.raises(DataError, match="smaller than the crop"):
        build_transform({"name": "RandomCropVideo", "size": 40})(CLIP)
    with pytest.raises(DataError, match="four dimensions"):
        VideoClipResize(5)(CLIP[0])
    with pytest.raises(DataError, match="uint8"):
        build_transform({"name": "ToTensorVideo"})(CLIP)
    with pytest.raises(ComponentError, match="by modality"):
        build_video_field_transform_default([], "test")
    with pytest.raises(UnknownComponentError):
        build_transform({"name": "CropVideo"})
