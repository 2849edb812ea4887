import pytest
from PIL import Image

from ray_classy.dataset import ImagePathDataset, ManifestDataset
from ray_classy.dataset.class_file import read_classes
from ray_classy.errors import DataError


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", b"\xef\xbb\xbfowl\r\ncat \r\nsea lion\r\n\r\n"),
        ("names.txt", b"owl\ncat\nsea lion"),
        ("names.json", b'["owl", "cat", "sea lion"]'),
    ],
)
def test_classes_are_the_lines_of_a_file_or_a_json_list(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_classes(str(tmp_path / name)) == ["owl", "cat", "sea lion"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.txt", "cat\ndog\ncat\n", r"n\.txt, line 3: the class 'cat' is there twice, first in line 1"),
        ("n.txt", "cat\n\ndog\n", r"n\.txt, line 2: no name"),
        ("n.txt", "\n", r"n\.txt is empty"),
        ("n.txt", "a\n" + "b" * 2000, r"n\.txt, line 2: 2,000 characters are no name"),
        ("n.json", '{"cat": 0}', "expected a list of names"),
        ("n.json", "[1, 2]", r"n\.json, entry 0: 1 is not the name of a class"),
        ("n.json", "[", r"n\.json: not JSON"),
    ],
)
def test_a_file_with_a_mistake_is_an_error_that_names_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_classes(str(tmp_path / name))


def test_files_that_cannot_be_read_are_errors(tmp_path):
    (tmp_path / "n.txt").write_bytes(b"cat\nd\xf6g")
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        read_classes(str(tmp_path / "n.txt"))
    with pytest.raises(DataError, match="there is no file"):
        read_classes(str(tmp_path / "other.txt"))


@pytest.fixture
def pets(tmp_path):
    for name in ("cat", "owl"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("L", (2, 2)).save(tmp_path / "pets" / name / "1.png")
    (tmp_path / "rows.csv").write_text("path,label\na.png,owl\nb.png,cow\n")
    return tmp_path


def test_a_dataset_has_the_classes_of_the_file_also_those_without_rows(pets):
    (pets / "names.txt").write_text("owl\ndog\ncat\n")
    dataset = ImagePathDataset(2, False, image_folder=str(pets / "pets"), classes=str(pets / "names.txt"))
    assert dataset.classes == ["owl", "dog", "cat"]
    assert dataset.labels().tolist() == [2, 0]


def test_a_class_that_the_file_lacks_is_an_error_with_the_row_and_the_file(pets):
    (pets / "names.txt").write_text("owl\ncat\n")
    with pytest.raises(DataError, match=r"rows\.csv, row 1: label 'cow' is not among .*those in .*names\.txt\)"):
        ManifestDataset(2, False, manifest=str(pets / "rows.csv"), classes=str(pets / "names.txt"))
    (pets / "names.txt").write_text("owl\ndog\n")
    with pytest.raises(DataError, match=r"class folders that `classes` does not list: cat .*names\.txt\)"):
        ImagePathDataset(2, False, image_folder=str(pets / "pets"), classes=str(pets / "names.txt"))
