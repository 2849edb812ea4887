"""Frames of videos, by number and by time, whatever decodes them."""

import os
import subprocess
import sys

import av
import numpy as np
import pytest
import torch

from ray_classy.dataset.video_reader import video_reader
from ray_classy.errors import ComponentError
from tests.videos import LEVELS, numbers, save_video


def read(path, wanted, backend="pyav"):
    with video_reader(backend)(str(path)) as reader:
        return numbers(reader.frames_at(wanted))


def torchcodec_loads():
    try:
        return video_reader("torchcodec") is not None
    except ComponentError:
        return False


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
@pytest.mark.parametrize("wanted", [[29], [13, 14, 15], [25, 3, 3, 11]])
def test_a_frame_is_exact_wherever_it_lies(tmp_path, codec, wanted):
    path = save_video(tmp_path / "a.mkv", codec=codec)
    assert read(path, wanted) == wanted


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.webm", "a.ts", "a.mpg"])
def test_frames_are_counted_in_the_file(tmp_path, name):
    path = save_video(tmp_path / name, codec={"a.ts": "libx264", "a.mpg": "mpeg2video"}.get(name))
    with video_reader("pyav")(path) as reader:
        assert reader.num_frames == 30 and reader.end - reader.begin == pytest.approx(1, abs=0.04)


def test_frames_of_a_variable_rate_are_found_by_their_times(tmp_path):
    path = save_video(tmp_path / "a.mkv", frames=4, rate=10, times=[0, 1, 5, 6])
    with video_reader("pyav")(path) as reader:
        assert numbers(reader.frames_played_at([0, 0.15, 0.45, 0.55, 0.65])) == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv444p", "gray"])
def test_frames_of_any_depth_and_colour_are_rgb_of_8_bits(tmp_path, pixels):
    path = save_video(tmp_path / "a.mkv", codec="ffv1", pixels=pixels)
    assert read(path, [3, 17, 29]) == [3, 17, 29]


@pytest.mark.parametrize(("degrees", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_frames_are_upright(tmp_path, degrees, corner):
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :16] = 255  # the top left
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = 32, 48
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    turn(path, degrees)
    with video_reader("pyav")(str(path)) as reader:
        frame = reader.frames_at([0])[0]
    assert frame.shape == (3, *((32, 48) if degrees == 180 else (48, 32)))
    assert frame[:, corner[0], corner[1]].min() > 200 and frame.float().mean() < 80


def turn(path, degrees):
    """Writes the matrix of a video that is to be shown turned counterclockwise."""
    cos, sin = {90: (0, -1), 180: (-1, 0), 270: (0, 1)}[degrees]
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    rows = [cos, sin, -sin, cos]
    for place, value in zip((0, 4, 12, 16), rows, strict=True):
        content[matrix + place : matrix + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, name):
    path = tmp_path / name
    save_video(path)
    os.truncate(path, path.stat().st_size * 6 // 10)
    with pytest.raises((ValueError, av.FFmpegError)):
        read(path, [0])


def test_a_file_of_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="no video stream"):
        read(tmp_path / "a.mp4", [0])


def test_a_playlist_that_names_other_files_is_refused(tmp_path):
    save_video(tmp_path / "a.ts", codec="libx264")
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(av.FFmpegError):
        read(tmp_path / "a.m3u8", [0])


def test_only_the_frames_asked_for_are_kept(tmp_path):
    path = save_video(tmp_path / "a.mp4", frames=40)
    with video_reader("pyav")(path) as reader:
        assert reader.frames_at([39, 0]).shape == (2, 3, 32, 48)


def test_a_closed_reader_leaves_no_open_file(tmp_path):
    path = save_video(tmp_path / "a.mp4")
    read(path, [3])
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(av.FFmpegError):
        read(tmp_path / "bad.mp4", [0])
    names = [os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if is_link(one)]
    assert not [name for name in names if str(tmp_path) in name]


def is_link(descriptor):
    return os.path.islink(f"/proc/self/fd/{descriptor}")


def test_damage_inside_a_video_is_an_error_or_a_frame(tmp_path):
    path = tmp_path / "a.mp4"
    save_video(path, codec="mpeg4")
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 40
    content[begin : begin + 60] = bytes(60)
    path.write_bytes(bytes(content))
    try:
        with video_reader("pyav")(str(path)) as reader:
            assert reader.frames_at([0, 20]).shape == (2, 3, 32, 48)
    except (ValueError, av.FFmpegError):
        pass


def test_without_a_decoder_one_error_says_what_to_install(monkeypatch):
    for module in ("torchcodec", "av"):
        monkeypatch.setitem(sys.modules, module, None)
    video_reader.cache_clear()
    with pytest.raises(ComponentError, match=r"torchcodec: .*; pyav: .*pip install 'ray_classy\[video\]'"):
        video_reader()


def test_without_ffmpeg_torchcodec_is_not_used(monkeypatch):
    monkeypatch.setattr("torchcodec.ffmpeg_major_version", None, raising=False) if torchcodec_loads() else None
    video_reader.cache_clear()
    assert video_reader().__name__ == "PyAVReader"


@pytest.mark.full
def test_the_package_is_imported_without_a_decoder():
    code = "import sys, ray_classy.dataset.video_path; print({'torchcodec', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.skipif(not torchcodec_loads(), reason="torchcodec, or an FFmpeg that it can load, is missing")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi"])
def test_both_decoders_give_the_same_frames(tmp_path, name):
    path = save_video(tmp_path / name)
    wanted, seconds = [29, 3, 4, 5, 17], [0.01, 0.5, 0.95]
    with video_reader("pyav")(path) as one, video_reader("torchcodec")(path) as other:
        assert one.num_frames == other.num_frames
        pairs = [(reader.frames_at(wanted), reader.frames_played_at(seconds)) for reader in (one, other)]
    for ours, theirs in zip(*pairs, strict=True):
        assert ours.shape == theirs.shape and numbers(ours) == numbers(theirs)
        assert (ours.float() - theirs.float()).abs().mean() <= 1
    assert LEVELS > 1 and pairs[0][0].dtype == torch.uint8
