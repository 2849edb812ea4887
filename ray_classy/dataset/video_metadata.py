"""The file that keeps the presentation times and frame rates of a folder of videos."""

from __future__ import annotations

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from ray_classy.dataset.cpus import cpus_of_this_process
from ray_classy.dataset.video_reader import video_reader
from ray_classy.errors import CheckpointError, ComponentError, DataError

Metadata = dict[str, Any]
"""`video_paths` (a list of paths), `video_pts` (one tensor of presentation times each) and `video_fps` (a list)."""

_MOST_BYTES = 4 << 30


def load_metadata(filepath: str, video_dir: str | None = None, update_file_path: bool = False) -> Metadata:
    """Reads the metadata of videos, without running anything that the file holds.

    Args:
        filepath: a JSON file, or a file of `torch.save` with tensors and plain values.
        video_dir: where the videos are now.
        update_file_path: replaces all but the class and the file's name in the paths by `video_dir`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is damaged or holds something else.
        ComponentError: `update_file_path` is set without a `video_dir`, or the folder does not exist.
    """
    with open(filepath, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    metadata = _parsed(content, filepath)
    if video_dir is not None and not os.path.isdir(video_dir):
        raise ComponentError(f"video_dir {video_dir!r}: the folder does not exist")
    if update_file_path:
        if video_dir is None:
            raise ComponentError("update_file_path needs a video_dir")
        metadata["video_paths"] = [os.path.join(video_dir, *path.split("/")[-2:]) for path in metadata["video_paths"]]
    return metadata


def _parsed(content: bytes, filepath: str) -> Metadata:
    from ray_classy.checkpoint.torch_file import read_torch_file

    remedy = "remove the file, and it is computed again"
    if len(content) > _MOST_BYTES:
        raise DataError(f"{filepath!r} has more than {_MOST_BYTES:,} bytes; {remedy}")
    try:
        metadata = json.loads(content) if filepath.endswith(".json") else read_torch_file(content)
    except (CheckpointError, ValueError, RecursionError) as error:
        raise DataError(f"{filepath!r} has no metadata of videos ({error}); {remedy}") from error
    paths = metadata.get("video_paths") if isinstance(metadata, dict) else None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise DataError(f"{filepath!r} has no list video_paths of paths; {remedy}")
    for key in ("video_pts", "video_fps"):
        if not isinstance(metadata.get(key), list):
            raise DataError(f"{filepath!r} has no list {key}; {remedy}")
    try:
        times = [torch.as_tensor(one) for one in metadata["video_pts"]]
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{filepath!r}: video_pts must be numbers ({error}); {remedy}") from error
    return {**metadata, "video_pts": times}


def save_metadata(metadata: Metadata, filepath: str) -> None:
    """Writes metadata at once, so that no reader finds half of it."""
    folder = os.path.dirname(os.path.abspath(filepath))
    os.makedirs(folder, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".metadata-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if filepath.endswith(".json"):
                plain = {**metadata, "video_pts": [torch.as_tensor(one).tolist() for one in metadata["video_pts"]]}
                file.write(json.dumps(plain).encode())
            else:
                torch.save(metadata, file)
        os.chmod(name, 0o644)
        os.replace(name, filepath)
    except BaseException:
        os.unlink(name)
        raise


def read_metadata(paths: list[str]) -> Metadata:
    """Reads the presentation times and frame rates of videos; those of a file that cannot be read are empty."""
    reader_class = video_reader("pyav")

    def times(path: str) -> tuple[torch.Tensor, float | None]:
        try:
            with reader_class(path) as reader:
                seconds = reader.end - reader.begin
                return torch.from_numpy(reader.times), reader.num_frames / seconds if seconds > 0 else None
        except Exception:  # damaged files make decoders raise almost anything; they are counted by who asks
            return torch.zeros(0, dtype=torch.int64), None

    with ThreadPoolExecutor(max(1, cpus_of_this_process())) as pool:
        found = list(pool.map(times, paths))
    return {"video_paths": paths, "video_pts": [one for one, _ in found], "video_fps": [fps for _, fps in found]}
