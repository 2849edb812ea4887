"""The files of a folder with one folder per class."""

import os

import pytest

from ray_classy.dataset.class_folders import FileKind, read_class_folders
from ray_classy.errors import DataError

VIDEOS = FileKind("video_folder", "videos", (".mp4", ".avi"))


def tree(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"")


def read(folder, classes=None):
    paths, labels, names, _ = read_class_folders(str(folder), classes, VIDEOS)
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


def remarks(folder):
    return read_class_folders(str(folder), None, VIDEOS).remarks


def test_other_files_are_counted_by_kind(tmp_path):
    tree(tmp_path, "run/a.mp4", "run/a.txt", "run/deep/b.TXT", "run/.DS_Store", "LICENSE")
    assert remarks(tmp_path) == ["4 files passed over: 2 .txt, 1 .DS_Store, 1 no extension"]


def test_nothing_to_remark(tmp_path):
    tree(tmp_path, "run/a.mp4")
    assert remarks(tmp_path) == []


def test_folders_of_file_servers_are_not_read(tmp_path):
    tree(tmp_path, "run/a.mp4", "@eaDir/run/a.mp4", "run/@eaDir/a.mp4/thumb.mp4", "__MACOSX/run/a.mp4")
    assert read(tmp_path)[0] == ["run/a.mp4"]


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    tree(tmp_path, "run/a.mp4/b.mp4")
    assert read(tmp_path)[0] == ["run/a.mp4/b.mp4"]


def test_links_are_followed_but_not_back_into_a_folder_above(tmp_path):
    tree(tmp_path / "data", "run/a.mp4")
    tree(tmp_path / "other", "b.mp4")
    os.symlink(tmp_path / "other", tmp_path / "data/jump")
    os.symlink(tmp_path / "other/b.mp4", tmp_path / "data/run/link.mp4")
    os.symlink(tmp_path / "data", tmp_path / "data/run/again")
    assert read(tmp_path / "data")[0] == ["jump/b.mp4", "run/a.mp4", "run/link.mp4"]
    assert "1 links back into a folder above" in remarks(tmp_path / "data")[0]


@pytest.mark.parametrize("target", ["nowhere.mp4", "a.mp4"])
def test_links_that_lead_nowhere(tmp_path, target):
    tree(tmp_path, "run/b.mp4")
    os.symlink(target, tmp_path / "run/a.mp4")
    with pytest.raises(DataError, match=r"1 links in .* lead nowhere \(.*run/a\.mp4\)"):
        read(tmp_path)


def test_a_pipe_is_no_file(tmp_path):
    tree(tmp_path, "run/b.mp4")
    os.mkfifo(tmp_path / "run/a.mp4")
    assert read(tmp_path)[0] == ["run/b.mp4"] and "1 pipes or devices" in remarks(tmp_path)[0]


def test_folders_named_as_by_hive(tmp_path):
    tree(tmp_path, "label=10/a.mp4", "label=2/b.mp4", "label=a%20b/c.mp4")
    files = ["label=10/a.mp4", "label=2/b.mp4", "label=a%20b/c.mp4"]
    assert read(tmp_path) == (files, [0, 1, 2], ["10", "2", "a b"])


@pytest.mark.parametrize("names", [("a=1", "b=1"), ("a=1", "cat")])
def test_other_folders_with_equals_signs_keep_their_names(tmp_path, names):
    tree(tmp_path, *(f"{name}/a.mp4" for name in names))
    assert read(tmp_path)[2] == list(names)


def test_classes_that_differ_in_spaces_only(tmp_path):
    tree(tmp_path, "cat/a.mp4", "cat /a.mp4")
    with pytest.raises(DataError, match=r"class folders of .* 'cat ' and 'cat' differ in spaces only"):
        read(tmp_path)


def test_a_folder_of_splits(tmp_path):
    tree(tmp_path, "train/cat/a.mp4", "val/cat/b.mp4")
    with pytest.raises(DataError, match=r"are train, val, each with folders in it: give one of them, '.*/train' say"):
        read(tmp_path)


def test_an_empty_class_folder_says_what_is_there_instead(tmp_path):
    tree(tmp_path, "run/a.mp4", "jump/a.txt")
    with pytest.raises(DataError, match=r"jump' has no videos: .*1 file passed over: 1 \.txt; remove it"):
        read(tmp_path)


@pytest.mark.parametrize("name", [b"run/caf\xe9.mp4", b"caf\xe9/a.mp4"])
def test_names_that_are_not_utf8(tmp_path, name):
    tree(tmp_path, "run/a.mp4", os.fsdecode(name))
    with pytest.raises(DataError, match=r"the name of b'.*caf\\xe9.*' is not UTF-8: rename it"):
        read(tmp_path)
