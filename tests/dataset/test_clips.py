"""Which frames of a video a clip has."""

import pytest
import torch

from ray_classy.dataset.clips import ClipSampling, decode_clip
from ray_classy.errors import ComponentError, DataError
from tests.videos import numbers, save_video


def starts(sampling, length):
    return [sampling.start(length, number, None) for number in range(sampling.clips_per_video)]


@pytest.mark.parametrize(
    ("clips_per_video", "step", "length", "want"),
    [
        (1, 1, 20, [8]),
        (2, 1, 20, [0, 16]),
        (3, 1, 20, [0, 8, 16]),
        (5, 1, 20, [0, 4, 8, 12, 16]),
        (3, 6, 20, [0, 6, 12]),
        (3, 1, 4, [0, 0, 0]),
        (3, 1, 2, [0, 0, 0]),
        (4, 1, 5, [0, 0, 0, 1]),
    ],
)
def test_even_clips_reach_from_the_beginning_to_the_end(clips_per_video, step, length, want):
    assert starts(ClipSampling(4, clips_per_video, step), length) == want


def test_random_clips_reach_every_place_and_no_other():
    sampling = ClipSampling(4, step_between_clips=3)
    assert {sampling.start(20, 0, draw) for draw in range(1000)} == {0, 3, 6, 9, 12, 15}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames_per_clip": 0}, "frames_per_clip must be an integer of at least 1, not 0"),
        ({"frames_per_clip": True}, "frames_per_clip must be an integer of at least 1, not True"),
        ({"frames_per_clip": 4, "clips_per_video": 1.5}, "clips_per_video"),
        ({"frames_per_clip": 4, "step_between_clips": -1}, "step_between_clips"),
        ({"frames_per_clip": 4, "frame_rate": 0}, "frame_rate must be a number of frames per second above 0"),
        ({"frames_per_clip": 4, "frame_rate": float("nan")}, "frame_rate"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ComponentError, match=message):
        ClipSampling(**arguments)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv", "a.webm"])
def test_a_clip_has_the_frames_asked_for(tmp_path, name):
    path = save_video(tmp_path / name)
    clip = decode_clip(path, ClipSampling(5, clips_per_video=3), number=2)
    assert clip.shape == (5, 3, 32, 48) and clip.dtype == torch.uint8
    assert numbers(clip) == [25, 26, 27, 28, 29]
    assert numbers(decode_clip(path, ClipSampling(5), draw=17)) == [17, 18, 19, 20, 21]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
@pytest.mark.parametrize(("rate", "want"), [(30, range(30)), (15, range(0, 30, 2)), (10, range(0, 30, 3))])
def test_a_lower_frame_rate_leaves_frames_out(tmp_path, name, rate, want):
    path = save_video(tmp_path / name)
    assert numbers(decode_clip(path, ClipSampling(len(want), frame_rate=rate))) == list(want)


def test_a_higher_frame_rate_repeats_frames(tmp_path):
    path = save_video(tmp_path / "a.mp4", frames=5, rate=10)
    assert numbers(decode_clip(path, ClipSampling(10, frame_rate=20))) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_clips_begin_at_steps_of_the_frame_rate_asked_for(tmp_path):
    path = save_video(tmp_path / "a.mp4")
    sampling = ClipSampling(3, 2, step_between_clips=5, frame_rate=15)
    assert [numbers(decode_clip(path, sampling, number)) for number in (0, 1)] == [[0, 2, 4], [20, 22, 24]]


@pytest.mark.parametrize("rate", [None, 10])
@pytest.mark.parametrize("draw", [None, 12345])
def test_a_video_shorter_than_the_clip_repeats_its_last_frame(tmp_path, rate, draw):
    path = save_video(tmp_path / "a.mp4", frames=3, rate=10)
    assert numbers(decode_clip(path, ClipSampling(6, frame_rate=rate), draw=draw)) == [0, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("rate", [None, 2, 1000])
def test_a_video_of_one_frame(tmp_path, rate):
    path = save_video(tmp_path / "a.mp4", frames=1, first=7)
    assert numbers(decode_clip(path, ClipSampling(2, frame_rate=rate))) == [7, 7]


def test_a_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
    save_video(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert numbers(decode_clip("12:30.mp4", ClipSampling(1), draw=4)) == [4]


def test_a_url_is_read(tmp_path):
    path = save_video(tmp_path / "a.mp4")
    assert numbers(decode_clip(f"file://{path}", ClipSampling(2), draw=9)) == [9, 10]


def sound(path):
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no file '.*a.mp4'"),
        (lambda path: path.write_bytes(b""), r"a\.mp4: empty \(0 bytes\)"),
        (lambda path: path.write_text("no video\n" * 99), r"a\.mp4: damaged, or not a video \("),
        (lambda path: path.mkdir(), r"a\.mp4"),
        (sound, r"a\.mp4: damaged, or not a video"),
    ],
    ids=["missing", "empty", "text", "folder", "sound"],
)
def test_files_that_are_not_videos_are_named(tmp_path, write, message):
    write(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=message):
        decode_clip(str(tmp_path / "a.mp4"), ClipSampling(2))


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_video_that_is_cut_off_is_an_error(tmp_path, share):
    path = tmp_path / "a.mp4"
    save_video(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"a\.mp4: damaged"):
        decode_clip(str(path), ClipSampling(2))
