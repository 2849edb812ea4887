"""Classy Vision's datasets of clips."""

import pickle

import pytest
import torch

from ray_classy.dataset import build_dataset
from ray_classy.dataset.classy_synthetic_video import SyntheticVideoDataset
from ray_classy.dataset.classy_video_dataset import ClassyVideoDataset, MaxLengthClipSampler
from ray_classy.dataset.core import RandomVideoDataset
from ray_classy.dataset.folder_clips import FrameSize
from ray_classy.errors import ComponentError, ConfigError, DataError
from tests.videos import LEVELS, save_video

SYNTHETIC = {
    "name": "synthetic_video",
    "split": "test",
    "num_classes": 5,
    "batchsize_per_replica": 4,
    "use_shuffle": False,
    "num_samples": 20,
    "frames_per_clip": 4,
    "video_width": 6,
    "video_height": 8,
    "audio_samples": 10,
    "clips_per_video": 2,
}


def test_random_clips_are_those_of_classy_vision():
    clips = RandomVideoDataset(5, "train", 20, 4, 6, 8, 10, 2)
    sample = clips[0]
    assert sample["input"]["video"].shape == (4, 8, 6, 3) and sample["input"]["audio"].shape == (10, 1)
    assert sample["input"]["video"].flatten()[:4].tolist() == [9, 125, 228, 15]
    assert clips[3]["input"]["audio"].flatten()[:2].tolist() == pytest.approx([0.902125, 0.759457], abs=1e-6)
    assert [clips[i]["target"] for i in range(8)] == [2, 1, 3, 3, 0, 2, 1, 4]
    tested = RandomVideoDataset(5, "test", 20, 4, 6, 8, 10, 2)
    assert [tested[i]["target"] for i in range(8)] == [2, 2, 1, 1, 3, 3, 3, 3]


def test_synthetic_clips_of_a_video_share_target_and_name():
    data = build_dataset({**SYNTHETIC, "transforms": {"video": [{"name": "ToTensorVideo"}]}})
    batch = next(iter(data.iterator()))
    assert batch["input"]["video"].shape == (4, 3, 4, 8, 6) and batch["input"]["audio"].shape == (4, 0, 1)
    assert batch["target"].tolist() == [2, 2, 1, 1] and batch["video"] == ["0", "0", "1", "1"]
    assert data.labels()[:4].tolist() == [2, 2, 1, 1] and data.num_classes == 5


def test_a_train_split_names_no_video():
    data = build_dataset({**SYNTHETIC, "split": "train"})
    assert isinstance(data, SyntheticVideoDataset)
    assert set(data[0]) == {"input", "target"} and data[0]["input"]["video"].shape == (3, 4, 112, 112)


@pytest.mark.parametrize("key", ["split", "num_classes", "frames_per_clip"])
def test_required_keys(key):
    with pytest.raises(ConfigError, match=key):
        SyntheticVideoDataset.from_config({name: value for name, value in SYNTHETIC.items() if name != key})


def test_the_parsed_keys_of_clips():
    config = {"frames_per_clip": 4, "batchsize_per_replica": 2, "use_shuffle": True, "transforms": {"video": []}}
    want = ({"video": []}, 2, True, None, 4, 0, 0, 0, 0, 1, None, 1)
    assert ClassyVideoDataset.parse_config(config) == want


@pytest.mark.parametrize(("most", "want"), [(None, 5), (3, 3), (9, 5)])
def test_a_sampler_is_limited(most, want):
    sampler = MaxLengthClipSampler(range(5), most)
    assert len(sampler) == want and list(sampler) == list(range(want))


@pytest.mark.parametrize("name", ["m.pt", "m.json"])
def test_metadata_is_read_as_it_was_written(tmp_path, name):
    metadata = {"video_paths": ["/a/b/c/1.mp4"], "video_pts": [torch.arange(3)], "video_fps": [30.0]}
    file = str(tmp_path / "new" / name)
    ClassyVideoDataset.save_metadata(metadata, file)
    found = ClassyVideoDataset.load_metadata(file)
    assert found["video_paths"] == ["/a/b/c/1.mp4"] and found["video_pts"][0].tolist() == [0, 1, 2]
    moved = ClassyVideoDataset.load_metadata(file, video_dir=str(tmp_path), update_file_path=True)
    assert moved["video_paths"] == [f"{tmp_path}/c/1.mp4"]
    with pytest.raises(AssertionError, match="does not exist"):
        ClassyVideoDataset.load_metadata(file, "/none", True)


class Runs:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize(
    "content", [b"", b"[]", pickle.dumps({"video_paths": Runs()}), b'{"video_paths": [1]}', b'{"video_paths": []}']
)
@pytest.mark.parametrize("name", ["m.pt", "m.json"])
def test_damaged_metadata_is_an_error_and_runs_nothing(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="it is computed again"):
        ClassyVideoDataset.load_metadata(str(tmp_path / name))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two classes of two videos, of 20, 20, 20 and 3 frames, and the files of the splits of both layouts."""
    folder = tmp_path_factory.mktemp("actions")
    for number, name in enumerate(("jump", "run")):
        for video in range(2):
            frames = 3 if number and video else 20
            save_video(folder / "videos" / name / f"{video}.avi", frames=frames, codec="mpeg4")
    splits = folder / "splits"
    splits.mkdir()
    for name in ("jump", "run"):
        (splits / f"{name}_test_split1.txt").write_text("0.avi 1\n1.avi 2\n")
    (splits / "trainlist01.txt").write_text("jump/0.avi 1\nrun/0.avi 2\nrun/1.avi 2\n")
    (splits / "testlist01.txt").write_text("jump/1.avi\n")
    return folder


def config(folders, tmp_path, name, **more):
    common = {"name": name, "batchsize_per_replica": 3, "use_shuffle": False, "frames_per_clip": 4, "split": "train"}
    places = {"metadata_file": str(tmp_path / "m.pt"), "video_dir": str(folders / "videos")}
    splits = {} if name == "kinetics400" else {"splits_dir": str(folders / "splits")}
    return {**common, **places, **splits, "transforms": {"video": []}, **more}


def first_frames(batches):
    return [round(clip[0].float().mean().item() / LEVELS) for batch in batches for clip in batch["input"]["video"]]


@pytest.mark.parametrize(
    ("name", "split", "labels", "short"),
    [
        ("hmdb51", "train", [0, 1], 0),
        ("hmdb51", "test", [0], 1),
        ("ucf101", "train", [0, 1], 1),
        ("ucf101", "test", [0], 0),
        ("kinetics400", "val", [0, 0, 1], 1),
    ],
)
def test_the_videos_of_a_split(folders, tmp_path, name, split, labels, short):
    data = build_dataset(
        config(folders, tmp_path, name, split=split, **{"extensions": ["avi"]} if "kin" in name else {})
    )
    assert data.classes == ["jump", "run"] and data.labels().tolist() == labels
    assert len(data.remarks) == short and (tmp_path / "m.pt").exists()
    sample = data[0]
    assert sample["input"]["video"].shape == (4, 32, 48, 3) and sample["input"]["audio"].shape == (0, 1)


def test_clips_of_the_train_split_are_random_and_of_others_spread(folders, tmp_path):
    spread = build_dataset(config(folders, tmp_path, "hmdb51", split="test", clips_per_video=3))
    assert first_frames(spread.iterator()) == [0, 8, 16]
    assert [name for batch in spread.iterator() for name in batch["video"]] == ["0"] * 3
    single = build_dataset(config(folders, tmp_path, "hmdb51", split="test"))
    assert first_frames(single.iterator()) == [0]
    train = build_dataset(config(folders, tmp_path, "hmdb51", clips_per_video=4))
    epochs = [first_frames(train.iterator(phase_type="train", current_phase_id=epoch)) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1] and len(set(epochs[0])) > 3


def test_known_metadata_is_used_in_another_place(folders, tmp_path):
    settings = config(folders, tmp_path, "ucf101", num_samples=1)
    build_dataset(settings)
    metadata = ClassyVideoDataset.load_metadata(settings["metadata_file"])
    metadata["video_paths"] = [path.replace(str(folders), "/elsewhere") for path in metadata["video_paths"]]
    ClassyVideoDataset.save_metadata(metadata, settings["metadata_file"])
    assert len(build_dataset(settings)) == 1 and build_dataset(settings)[0]["target"] == 0


def test_the_metadata_of_another_folder_is_refused(folders, tmp_path):
    settings = config(folders, tmp_path, "ucf101")
    build_dataset(settings)
    metadata = ClassyVideoDataset.load_metadata(settings["metadata_file"])
    metadata["video_paths"] = [path.replace(".avi", ".mp4") for path in metadata["video_paths"]]
    ClassyVideoDataset.save_metadata(metadata, settings["metadata_file"])
    with pytest.raises(DataError, match=r"is of other videos than those in .*: give each folder a metadata_file"):
        build_dataset(settings)


def test_frames_are_resized_when_they_are_decoded(folders, tmp_path):
    data = build_dataset(config(folders, tmp_path, "hmdb51", video_min_dimension=16))
    assert data[0]["input"]["video"].shape == (4, 16, 24, 3)
    assert FrameSize(width=24).of(32, 48) == (16, 24) and FrameSize(10, 20).of(32, 48) == (20, 10)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"fold": 4}, ComponentError, "fold must be 1, 2 or 3"),
        ({"fold": 3}, DataError, "lists no video"),
        ({"audio_samples": 5}, ComponentError, "sound is not decoded"),
        ({"video_dir": "/none"}, FileNotFoundError, "/none"),
        ({"splits_dir": None}, AssertionError, "splits_dir"),
        ({"frames_per_clip": 99}, DataError, "no video of this split with 99 frames"),
        ({"video_width": 3, "video_min_dimension": 3}, ComponentError, "video_min_dimension"),
    ],
)
def test_mistakes(folders, tmp_path, more, error, message):
    with pytest.raises(error, match=message):
        build_dataset(config(folders, tmp_path, "hmdb51", **more))


class Indexed(torch.utils.data.Dataset):
    """Three videos of 5, 2 and 6 clips, numbered from 0, with torchvision's index of them."""

    def __init__(self):
        from torchvision.datasets.video_utils import VideoClips

        self.video_clips = VideoClips.__new__(VideoClips)
        self.video_clips.clips = [torch.zeros(clips, 4) for clips in (5, 2, 6)]
        self.video_clips.cumulative_sizes = [5, 7, 13]

    def __len__(self):
        return 13

    def __getitem__(self, index):
        return {"input": torch.tensor([float(index)]), "target": 0}


def test_a_dataset_with_an_index_is_sampled_from_it():
    spread = ClassyVideoDataset(Indexed(), "test", 4, False, None, None, 2)
    batches = list(spread.iterator())
    assert [row for batch in batches for row in batch["input"].flatten().tolist()] == [0, 4, 5, 6, 7, 12]
    assert [name for batch in batches for name in batch["video"]] == ["0", "0", "1", "1", "2", "2"]
    assert list(spread._get_sampler(0)) == [0, 4, 5, 6, 7, 12]
    train = ClassyVideoDataset(Indexed(), "train", 4, True, None, 5, 2)
    epochs = [
        sorted(row for batch in train.iterator(phase_type="train", current_phase_id=epoch) for row in batch["input"])
        for epoch in (0, 1, 0)
    ]
    assert epochs[0] == epochs[2] != epochs[1] and len(set(map(float, epochs[0]))) == 5
