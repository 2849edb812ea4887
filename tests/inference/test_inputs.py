"""Which images are meant by the words of a command."""

import dataclasses
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_classy.errors import ComponentError, DataError
from ray_classy.inference.inputs import inputs_in, rows_of
from ray_classy.inference.preprocessing import Preprocessing


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.png", "notes.txt", "cats/1.jpg", ".hidden/2.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"\xff\xd8\xff")
    return tmp_path / "photos"


def names(words):
    return [os.path.relpath(path) for one in inputs_in(words)[0] for path in one.files]


def test_a_folder_means_the_inputs_in_it_and_below(photos):
    assert names(["photos"]) == ["photos/a.png", "photos/b.jpg", "photos/cats/1.jpg"]


def test_what_is_passed_over_is_said(photos):
    assert inputs_in(["photos"])[1] == ["photos: 1 file passed over: 1 .txt"]


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
        inputs_in([word])


@pytest.fixture
def how():
    return Preprocessing(lambda sample: sample)


@pytest.fixture
def tables(digits, tmp_path, monkeypatch):
    """Four images as a Parquet file, a shard, a manifest and a list."""
    monkeypatch.chdir(tmp_path)
    images = []
    for number, image in enumerate(digits[0][:4]):
        (tmp_path / "images").mkdir(exist_ok=True)
        image.save(tmp_path / "images" / f"{number}.png")
        images.append((tmp_path / "images" / f"{number}.png").read_bytes())
    pq.write_table(pa.table({"photo": images, "key": [10, 11, 12, 13]}), "rows.parquet")
    with tarfile.open("rows.tar", "w") as tar:
        for number in range(4):
            tar.add(f"images/{number}.png", f"{number:03}.png")
    (tmp_path / "rows.csv").write_text("path,key\n" + "".join(f"images/{n}.png,k{n}\n" for n in range(4)))
    (tmp_path / "rows.txt").write_text("".join(f"images/{n}.png\n" for n in range(4)))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "options", "name"),
    [
        ("rows.parquet", {"image_column": "photo"}, "rows.parquet:2"),
        ("rows.tar", {}, "rows.tar/002.png"),
        ("rows.csv", {}, "images/2.png"),
        ("rows.txt", {}, "images/2.png"),
    ],
)
def test_tables_shards_and_lists_are_rows_of_images(tables, how, digits, file, options, name):
    images = rows_of(inputs_in([file])[0], how, options)
    assert len(images) == 4 and images.names([2]) == [name]
    sample = images.dataset(how.transform)[2]
    assert sample["input"].tobytes() == digits[0][2].convert("RGB").tobytes() and sample["row"] == 2


def test_rows_of_several_kinds_are_numbered_on(tables, how):
    images = rows_of(inputs_in(["images", "rows.csv", "rows.tar"])[0], how)
    assert images.names([3, 4, 11]) == ["images/3.png", "images/0.png", "rows.tar/003.png"]
    dataset = images.dataset(how.transform)
    dataset.dataset.fetch([3, 11, 4, 3])
    assert [dataset[row]["row"] for row in (3, 11, 4)] == [3, 11, 4]


def test_ids_are_those_of_a_column(tables, how):
    images = rows_of(inputs_in(["rows.parquet", "rows.csv"])[0], how, {"image_column": "photo"}, "key")
    assert images.ids([1, 5]) == ["11", "k1"]
    with pytest.raises(ComponentError, match="has no column 'key'"):
        rows_of(inputs_in(["images"])[0], how, None, "key")


def test_a_folder_of_tables_is_read_as_such(tables, how):
    os.makedirs("parts")
    os.rename("rows.parquet", "parts/0.parquet")
    assert inputs_in(["parts"])[0][0] == ("parquet", ["parts/0.parquet"])


def test_the_columns_of_the_models_own_data_are_the_default(tables, how):
    own = dataclasses.replace(how, dataset={"name": "parquet", "image_column": "photo"})
    assert len(rows_of(inputs_in(["rows.parquet"])[0], own)) == 4


def test_a_key_that_no_input_has_is_an_error(tables, how):
    with pytest.raises(ComponentError, match="no key 'image_colum'; did you mean"):
        rows_of(inputs_in(["rows.parquet"])[0], how, {"image_colum": "photo"})


def test_other_content_has_another_fingerprint(tables, how):
    before = rows_of(inputs_in(["rows.txt"])[0], how).fingerprint()
    (tables / "rows.txt").write_text("images/0.png\n")
    assert rows_of(inputs_in(["rows.txt"])[0], how).fingerprint() != before
