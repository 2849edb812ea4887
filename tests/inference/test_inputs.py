"""Which images are meant by the words of a command."""

import os

import pytest

from ray_classy.errors import DataError
from ray_classy.inference.inputs import images_in


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.png", "notes.txt", "cats/1.jpg", ".hidden/2.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"\xff\xd8\xff")
    return tmp_path / "photos"


def names(words):
    return [os.path.relpath(path) for path in images_in(words)[0]]


def test_a_folder_means_the_images_in_it_and_below(photos):
    assert names(["photos"]) == ["photos/a.png", "photos/b.jpg", "photos/cats/1.jpg"]


def test_what_is_passed_over_is_said(photos):
    assert images_in(["photos"])[1] == ["photos: 1 file passed over: 1 .txt"]


def test_words_keep_their_order(photos):
    assert names(["photos/b.jpg", "photos/a.png"]) == ["photos/b.jpg", "photos/a.png"]


def test_a_pattern_means_the_files_that_match(photos):
    assert names(["photos/*.jpg"]) == ["photos/b.jpg"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("photo", "there is no file or folder 'photo'"),
        ("photos/*.gif", "no file matches"),
        ("empty", "the folder 'empty' has no images"),
    ],
)
def test_a_word_that_leads_to_no_image_is_an_error(photos, word, text):
    os.makedirs("empty")
    with pytest.raises(DataError, match=text):
        images_in([word])
