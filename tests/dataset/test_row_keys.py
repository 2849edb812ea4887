import numpy as np
import pyarrow as pa
import pytest

from ray_classy.dataset.row_keys import keys_below, member_keys, numbered_keys, text_keys
from ray_classy.errors import DataError

MASK, GOLDEN = (1 << 64) - 1, 0x9E3779B97F4A7C15


def mixed(state):
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def key(text):
    data = text.encode()
    state = mixed((len(data) + GOLDEN) & MASK)
    for at in range(0, len(data), 8):
        state = mixed(((state ^ int.from_bytes(data[at : at + 8], "little")) + GOLDEN) & MASK)
    return state


TEXTS = ["", "a", "cats/1.jpg", "12345678", "123456789", "dögs/ß.png", "x" * 1000, "a\0", "a"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_keys_are_those_of_the_documented_hash(kind):
    assert text_keys(pa.array(TEXTS, kind)).tolist() == [key(text) for text in TEXTS]
    assert text_keys(pa.array(["?", *TEXTS], kind).slice(1)).tolist() == [key(text) for text in TEXTS]
    assert text_keys(pa.chunked_array([TEXTS[:3], [], TEXTS[3:]])).tolist() == [key(text) for text in TEXTS]
    assert text_keys(pa.array(TEXTS).dictionary_encode()).tolist() == [key(text) for text in TEXTS]


def test_keys_stay_the_same_in_later_versions():
    assert text_keys(pa.array(["cats/0001.jpg", "dogs/17.png"])).tolist() == [
        14441447278252246176,
        10140342839479177448,
    ]


def test_an_integer_has_the_key_of_its_digits():
    assert text_keys(pa.array([17, -3])).tolist() == [key("17"), key("-3")]


def test_accents_are_hashed_in_their_composed_form():
    assert text_keys(pa.array(["e\u0301"])).tolist() == [key("\u00e9")]


@pytest.mark.parametrize("ids", [pa.array(["a", None]), pa.array([1.5])])
def test_ids_that_are_missing_or_no_ids_are_an_error(ids):
    with pytest.raises(DataError, match=r"row 1 has no id|must be a string or an integer"):
        text_keys(ids)


def test_files_have_the_keys_of_their_paths_in_the_folder():
    there = keys_below("s3://bucket/pets?region=x", ["s3://bucket/pets/cat/1.jpg?region=x"])
    assert keys_below("/data/pets", ["/data/pets/cat/1.jpg"]) == keys_below("pets/", ["pets/cat/1.jpg"]) == there
    assert there == [key("cat/1.jpg")]


def test_rows_without_ids_have_the_keys_of_their_places():
    keys = numbered_keys(["a", "b"], [2, 3])
    assert len(set(keys.tolist())) == 5
    assert np.array_equal(numbered_keys(["b"], [4])[:3], keys[2:])
    assert len(set(member_keys(["a", "b"], [1, 1], pa.array(["0", "0"])).tolist())) == 2
