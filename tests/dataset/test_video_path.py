"""Clips of video files as a dataset: every frame of the videos tells its number."""

import pickle
import sys

import pytest
import torch

from ray_classy.dataset import VideoPathDataset, build_dataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.video_reader import video_reader
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import config_keys
from tests.videos import numbers, save_video

VIDEOS = 4
FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of two videos."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(VIDEOS):
        save_video(folder / ("jump", "run")[number // 2] / f"{number}.mp4", frames=FRAMES)
    return folder


def dataset(folder, batch=3, shuffle=False, **arguments):
    return VideoPathDataset(batch, shuffle, **{"frames_per_clip": 4, "video_folder": str(folder), **arguments})


def seen(data, phase_type, phase_id=0, seed=0, **options):
    """The first frame of each row's clip, in the order of a phase."""
    batches = data.iterator(phase_type=phase_type, current_phase_id=phase_id, seed=seed, **options)
    return [clip[0] for batch in batches for clip in numbers(batch["input"])]


def test_samples_are_clips_with_the_class_of_their_folder(folder):
    data = dataset(folder)
    assert len(data) == VIDEOS and data.classes == ["jump", "run"]
    sample = data[3]
    assert sample["input"].shape == (4, 3, 32, 48) and sample["input"].dtype == torch.uint8
    assert sample["target"] == 1 and data.labels().tolist() == [0, 0, 1, 1]


def test_rows_are_counted_without_opening_a_video(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").write_bytes(b"no video")
    assert len(dataset(tmp_path, clips_per_video=5)) == 10


@pytest.mark.parametrize("workers", [0, 1])
def test_test_clips_are_spread_evenly_over_each_video(folder, workers):
    data = dataset(folder, clips_per_video=3, batch=5)
    assert data.labels().tolist() == [0] * 6 + [1] * 6
    assert seen(data, "test", num_workers=workers) == [0, 18, 36] * VIDEOS


def test_a_single_test_clip_lies_in_the_middle(folder):
    assert seen(dataset(folder), "test") == [18] * VIDEOS


def test_train_clips_lie_at_random_places_that_seed_epoch_and_row_tell(folder):
    data = dataset(folder, clips_per_video=4)
    first, second = seen(data, "train", 0), seen(data, "train", 1)
    assert first != second and len(set(first)) > 4 and max(first) <= FRAMES - 4
    assert seen(dataset(folder, clips_per_video=4, batch=7), "train", 0) == first
    assert seen(data, "train", 1) == second
    assert seen(data, "train", 0, seed=1) != first
    assert seen(data, "train", 0, num_workers=2) == first


def test_a_test_phase_between_train_phases_changes_nothing(folder):
    data = dataset(folder, clips_per_video=3)
    first = seen(data, "train", 0)
    assert seen(data, "test") == [0, 18, 36] * VIDEOS and seen(data, "train", 0) == first


def test_threads_that_decode_ahead_draw_the_same_clips(folder):
    data = dataset(folder, clips_per_video=3)
    want = [seen(data, "train", epoch) for epoch in range(2)]
    data.dataset.threads = 2
    assert [seen(data, "train", epoch) for epoch in range(2)] == want
    assert seen(data, "test") == [0, 18, 36] * VIDEOS


def test_a_phase_that_is_left_early_leaves_nothing_to_the_next(folder):
    data = dataset(folder, clips_per_video=3)
    want = seen(data, "train", 1)
    data.dataset.threads = 2
    next(iter(data.iterator(phase_type="train", current_phase_id=0)))
    assert seen(data, "train", 1) == want


def test_a_phase_resumed_inside_an_epoch_draws_the_same_clips(folder):
    data = dataset(folder, clips_per_video=3, shuffle=True)
    assert seen(data, "train", 1, start=6) == seen(data, "train", 1)[6:]


def test_a_transform_draws_as_it_would_without_the_clips_draw(folder):
    config = {
        "name": "video_path",
        "batchsize_per_replica": 2,
        "use_shuffle": True,
        "video_folder": str(folder),
        "frames_per_clip": 4,
        "transforms": [
            {
                "name": "apply_transform_to_key",
                "key": "input",
                "transforms": [
                    {"name": "RandomResizedCrop", "size": [16, 16]},
                    {"name": "RandomHorizontalFlip"},
                    {"name": "ToDtype", "dtype": "float32", "scale": True},
                    {"name": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
                    {"name": "clip_to_tensor"},
                ],
            }
        ],
    }
    batches = [list(build_dataset(config).iterator(phase_type="train", num_workers=workers)) for workers in (0, 1)]
    assert batches[0][0]["input"].shape == (2, 3, 4, 16, 16)
    torch.testing.assert_close(batches[0], batches[1], rtol=0, atol=0)


def test_without_transforms_clips_are_made_for_3d_models(folder):
    config = {"name": "video_path", "batchsize_per_replica": 4, "use_shuffle": False, "frames_per_clip": 4}
    batch = next(iter(build_dataset({**config, "video_folder": str(folder)}).iterator()))
    assert batch["input"].shape == (4, 3, 4, 32, 48) and batch["input"].dtype == torch.float32
    assert batch["input"].min() >= 0 and batch["input"].max() <= 1


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("phase_type", ["train", "test"])
def test_every_clip_belongs_to_one_rank_and_is_the_same_there(folder, monkeypatch, world, phase_type):
    want = seen(dataset(folder, clips_per_video=3), phase_type, 2)
    monkeypatch.setattr("ray_classy.dataset.classy_dataset.get_world_size", lambda: world)
    found = {}
    for rank in range(world):
        monkeypatch.setattr("ray_classy.dataset.classy_dataset.get_rank", lambda rank=rank: rank)
        data = dataset(folder, clips_per_video=3, batch=2)
        batches = iter(data.iterator(phase_type=phase_type, current_phase_id=2))
        rows = iter(batches.plan.batches())
        for batch in batches:
            clips = [clip[0] for clip in numbers(batch["input"])]
            for row, clip in list(zip(next(rows).tolist(), clips, strict=True))[: batches.share.rows]:
                assert row not in found
                found[row] = clip
    assert [found[row] for row in range(3 * VIDEOS)] == want


def test_num_samples_counts_clips(folder):
    assert seen(dataset(folder, clips_per_video=3, num_samples=4), "test") == [0, 18, 36, 0]


def test_a_manifest_of_videos(folder, tmp_path):
    lines = ["file,action,length", "run/3.mp4,run,40", f"{folder}/jump/0.mp4,jump,40", "run/2.mp4,run,40"]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    columns = {"path_column": "file", "label_column": "action", "root": str(folder)}
    data = VideoPathDataset(2, False, frames_per_clip=4, manifest=str(tmp_path / "m.csv"), clips_per_video=2, **columns)
    assert data.classes == ["jump", "run"] and data.labels().tolist() == [1, 1, 0, 0, 1, 1]
    names = [path.rsplit("/", 1)[1] for path in data.dataset.rows.column("path")]
    assert names == ["3.mp4", "3.mp4", "0.mp4", "0.mp4", "2.mp4", "2.mp4"]
    assert seen(data, "test") == [0, 36] * 3
    assert [data[row]["target"] for row in range(6)] == [1, 1, 0, 0, 1, 1]


def test_a_folder_behind_a_url(folder):
    data = dataset(f"file://{folder}", clips_per_video=2)
    assert data.labels().tolist() == [0] * 4 + [1] * 4 and seen(data, "test") == [0, 36] * VIDEOS


def test_a_video_that_is_changed_afterwards_is_an_error(tmp_path):
    import os
    import time

    path = save_video(tmp_path / "run" / "a.mp4")
    data = dataset(tmp_path)
    data.dataset.decode.since -= 60
    os.utime(path, (time.time() - 5, time.time() - 5))
    with pytest.raises(DataError, match=r"a\.mp4' was changed at .*, since the run began"):
        data[0]


def test_evenly_spread_clips_name_their_video(folder):
    data = dataset(folder, batch=5, clips_per_video=3)
    names = [name for batch in data.iterator(phase_type="test") for name in batch["video"]]
    assert names == [str(video) for video in range(VIDEOS) for _ in range(3)]
    assert "video" not in next(iter(data.iterator(phase_type="train"))) and "video" not in dataset(folder)[0]


def test_a_flat_folder_has_no_targets(folder):
    data = dataset(folder / "run")
    assert len(data) == 2 and set(data[0]) == {"input"} and data.labels() is None


def test_a_video_that_cannot_be_decoded_stops_the_phase_with_its_path(folder, tmp_path):
    save_video(tmp_path / "run" / "a.mp4")
    (tmp_path / "run" / "b.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"run/b\.mp4: empty .*max_bad_rows"):
        seen(dataset(tmp_path), "test")


@pytest.mark.parametrize("phase_type", ["train", "test"])
def test_bad_videos_are_skipped_and_counted(tmp_path, phase_type):
    save_video(tmp_path / "run" / "a.mp4", frames=8)
    (tmp_path / "run" / "b.mp4").write_text("no video")
    save_video(tmp_path / "run" / "c.mp4", frames=8)
    batches = iter(dataset(tmp_path, clips_per_video=2, max_bad_rows=2).iterator(phase_type=phase_type))
    assert sum(len(batch["target"]) for batch in batches) == 4 and batches.bad_rows == 2
    with pytest.raises(DataError, match="max_bad_rows=1 allows"):
        seen(dataset(tmp_path, clips_per_video=2, max_bad_rows=1), phase_type)


def test_pickles_and_rows_that_ray_data_can_hold(folder):
    data = dataset(folder, clips_per_video=2)
    assert isinstance(data.dataset.rows, ItemRows)
    again = pickle.loads(pickle.dumps(data))
    assert seen(again, "train", 3) == seen(data, "train", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"video_folder": None}, "either video_folder or manifest; neither is given"),
        ({"manifest": "m.csv"}, "both are given"),
        ({"frames_per_clip": 0}, "frames_per_clip"),
        ({"root": "x"}, "root with manifest only"),
    ],
)
def test_impossible_arguments(folder, arguments, message):
    with pytest.raises(ComponentError, match=message):
        dataset(folder, **arguments)


def test_without_a_decoder_a_config_is_refused_when_it_is_checked(tmp_path, monkeypatch):
    for module in ("torchcodec", "av"):
        monkeypatch.setitem(sys.modules, module, None)
    video_reader.cache_clear()
    with pytest.raises(ComponentError, match=r"pip install 'ray_classy\[video\]'"):
        dataset(tmp_path)


def test_keys_of_the_config():
    keys = config_keys(VideoPathDataset)
    own = {"video_folder", "manifest", "frames_per_clip", "clips_per_video", "step_between_clips", "frame_rate"}
    assert own <= set(keys) and {"max_bad_rows", "transforms", "use_shuffle"} <= set(keys)
