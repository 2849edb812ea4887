"""The files of a folder with one folder per class."""

import pytest

from ray_classy.dataset.class_folders import read_class_folders
from ray_classy.errors import DataError


def tree(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"")


def read(folder, classes=None):
    paths, labels, names = read_class_folders(str(folder), classes, (".mp4", ".avi"), "video_folder", "videos")
    return [path.removeprefix(f"{folder}/") for path in paths], None if labels is None else labels.tolist(), names


def test_classes_come_in_name_order_and_files_in_path_order(tmp_path):
    tree(
        tmp_path, "run/b.mp4", "run/a.AVI", "run/deep/c.mp4", "jump/d.mp4", "jump/e.txt", ".hidden/f.mp4", "run/.g.mp4"
    )
    tree(tmp_path, "README.md", "run/.git/h.mp4")
    assert read(tmp_path) == (["jump/d.mp4", "run/a.AVI", "run/b.mp4", "run/deep/c.mp4"], [0, 1, 1, 1], ["jump", "run"])


def test_given_classes_tell_the_targets(tmp_path):
    tree(tmp_path, "run/a.mp4")
    assert read(tmp_path, ["walk", "run"]) == (["run/a.mp4"], [1], ["walk", "run"])


def test_a_flat_folder_has_no_targets(tmp_path):
    tree(tmp_path, "b.mp4", "a.mp4", "c.txt")
    assert read(tmp_path) == (["a.mp4", "b.mp4"], None, None)


@pytest.mark.parametrize(
    ("files", "classes", "message"),
    [
        (["a.txt"], None, r"no videos in .*looked for files ending in \.mp4, \.avi"),
        (["run/a.mp4", "jump/a.txt"], None, "class folder '.*jump' has no videos"),
        (["run/a.mp4", "b.mp4"], None, r"has 1 videos \(b\.mp4, \.\.\.\) beside the class folders \(run"),
        (["runs/a.mp4"], ["run", "walk"], "does not list: runs .did you mean 'run'"),
    ],
)
def test_mistakes_in_the_folder(tmp_path, files, classes, message):
    tree(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        read(tmp_path, classes)


def test_no_folder(tmp_path):
    tree(tmp_path, "a.mp4")
    with pytest.raises(DataError, match=r"video_folder '.*a\.mp4' is not a folder"):
        read(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "b")
