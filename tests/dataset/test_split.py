import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from ray_classy.dataset import ImagePathDataset, ManifestDataset, ParquetDataset
from ray_classy.dataset.row_keys import text_keys
from ray_classy.dataset.split import Split
from ray_classy.errors import ComponentError, DataError


def keys(count, begin=0):
    return text_keys(pa.array([f"{number}.jpg" for number in range(begin, begin + count)]))


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pets")
    for name, count in {"cat": 30, "dog": 12, "owl": 2}.items():
        (folder / name).mkdir()
        for number in range(count):
            Image.new("RGB", (4, 4)).save(folder / name / f"{number}.png")
    return folder


def sides(split, build):
    """Returns the ids on both sides, as the raw rows have them."""
    taken = [split.take(build(), side) for side in ("train", "test")]
    return [[row.get("path") for row in one.dataset.take(range(len(one)))] for one in taken]


def test_each_row_is_on_one_side_by_its_share():
    test = Split(test=0.2).test_rows(keys(10_000))
    assert abs(test.mean() - 0.2) < 0.02
    other = Split(test=0.2, seed=1).test_rows(keys(10_000))
    assert abs((test & other).mean() - 0.04) < 0.01


def test_a_larger_share_keeps_the_test_rows():
    small, large = (Split(test=share).test_rows(keys(1000)) for share in (0.1, 0.3))
    assert (small & ~large).sum() == 0


def test_added_rows_move_no_old_row():
    before, after = (Split(test=0.2).test_rows(keys(count)) for count in (500, 2000))
    assert np.array_equal(before, after[:500])


def test_stratify_gives_each_class_rows_on_both_sides():
    labels = np.repeat(np.arange(300), 3)
    test = Split(test=0.2, stratify=True).test_rows(keys(900), labels).reshape(300, 3)
    assert (test.any(axis=1) & ~test.all(axis=1)).all()
    plain = Split(test=0.2).test_rows(keys(900)).reshape(300, 3)
    mixed = plain.any(axis=1) & ~plain.all(axis=1)
    assert np.array_equal(test[mixed], plain[mixed])
    assert ((test != plain).sum(axis=1) <= 1).all()


def test_stratify_trains_on_the_only_row_of_a_class():
    assert not Split(test=0.9, stratify=True).test_rows(keys(50), np.arange(50)).any()


def test_stratify_moves_old_rows_only_in_classes_that_had_none_on_one_side():
    labels = np.arange(4000) % 100
    plain, before, after = (
        split.test_rows(keys(count), labels[:count])
        for split, count in ((Split(0.2), 500), (Split(0.2, True), 500), (Split(0.2, True), 4000))
    )
    moved = before != after[:500]
    assert (plain != before)[moved].all()


def test_rows_of_one_id_stay_together_when_stratify_moves_it():
    ids = np.repeat(keys(200), 5)
    test = Split(test=0.2, stratify=True).test_rows(ids, np.repeat(np.arange(100), 10)).reshape(200, 5)
    assert (test.all(axis=1) | ~test.any(axis=1)).all()


def test_sides_of_a_folder_are_all_of_its_rows(pets):
    train, test = sides(Split(test=0.3, stratify=True), lambda: ImagePathDataset(2, False, image_folder=str(pets)))
    assert sorted(train + test) == sorted(map(str, pets.glob("*/*.png")))
    assert {path.split("/")[-2] for path in test} == {"cat", "dog", "owl"}


def test_a_folder_that_moves_keeps_its_sides(pets, tmp_path):
    (tmp_path / "elsewhere").symlink_to(pets)
    here, there = (
        sides(Split(test=0.3), lambda folder=folder: ImagePathDataset(2, False, image_folder=str(folder)))[1]
        for folder in (pets, tmp_path / "elsewhere")
    )
    assert [path.split("/")[-2:] for path in here] == [path.split("/")[-2:] for path in there]


def test_labels_and_samples_are_those_of_the_side(pets):
    dataset = Split(test=0.3).take(ImagePathDataset(2, False, image_folder=str(pets)), "train")
    assert len(dataset) == len(dataset.labels()) < 44
    assert [dataset[number]["target"] for number in range(len(dataset))] == dataset.labels().tolist()
    assert dataset.classes == ["cat", "dog", "owl"]


def test_a_manifest_is_split_by_the_paths_in_it_or_by_a_column(pets, tmp_path):
    rows = [f"cat/{number}.png,cat,{number // 10}" for number in range(30)]
    (tmp_path / "rows.csv").write_text("path,label,animal\n" + "\n".join(rows))

    def build():
        return ManifestDataset(2, False, manifest=str(tmp_path / "rows.csv"), root=str(pets))

    folder = sides(Split(test=0.3), lambda: ImagePathDataset(2, False, image_folder=str(pets)))[1]
    by_path = sides(Split(test=0.3), build)[1]
    assert sorted(by_path) == sorted(path for path in folder if "/cat/" in path)
    train, test = sides(Split(test=0.5, seed=1, id="animal"), build)
    animals = [{int(path.split("/")[-1].split(".")[0]) // 10 for path in side} for side in (train, test)]
    assert not animals[0] & animals[1]
    assert len(train) + len(test) == 30


def test_rows_of_a_parquet_file_keep_their_sides_when_files_are_added(tmp_path):
    def write(name, begin):
        table = pa.table({"image": [[[[0]]]] * 40, "label": [0] * 40, "id": list(range(begin, begin + 40))})
        pyarrow.parquet.write_table(
            table.cast(
                pa.schema(
                    [("image", pa.list_(pa.list_(pa.list_(pa.uint8())))), ("label", pa.int64()), ("id", pa.int64())]
                )
            ),
            tmp_path / name,
        )

    def test_rows(split):
        dataset = ParquetDataset(2, False, files=str(tmp_path / "*.parquet"))
        return dataset.row_values("id")[split.test_rows(dataset.row_keys(split.id))].tolist()

    write("b.parquet", 0)
    before = [test_rows(split) for split in (Split(0.3), Split(0.3, id="id"))]
    write("a.parquet", 40)
    after = [test_rows(split) for split in (Split(0.3), Split(0.3, id="id"))]
    assert [[row for row in rows if row < 40] for rows in after] == before


def test_a_change_of_the_ids_is_told_apart():
    def rows(ids):
        class Rows(ImagePathDataset):
            def __init__(self):
                pass

            def row_keys(self, column=None):
                return ids

            def keep_rows(self, numbers):
                pass

        return Split(0.5).take(Rows(), "train").split_rows

    for count in (20, 5000):
        record = rows(keys(count)).record()
        assert rows(keys(count)).change(record) is None
        assert rows(keys(count * 2)).change(record) == "added"
        assert rows(keys(count // 2)).change(record) == "removed"
        assert rows(keys(count, begin=count // 10)).change(record) == "replaced"


@pytest.mark.parametrize("wrong", [{"test": 0}, {"test": 1}, {"test": 0.1, "seed": "a"}, {"test": 0.1, "id": 3}])
def test_values_out_of_range_are_errors(wrong):
    with pytest.raises(ComponentError):
        Split(**wrong)


def test_what_cannot_be_split_is_an_error(pets):
    dataset = ImagePathDataset(2, False, image_files=[str(pets / "owl/0.png"), str(pets / "owl/1.png")])
    with pytest.raises(DataError, match="one class each"):
        Split(0.5, stratify=True).take(dataset, "train")
    with pytest.raises(ComponentError, match="no columns"):
        Split(0.5, id="id").take(dataset, "train")
    with pytest.raises(DataError, match="none of the 2 rows to the test phase"):
        Split(0.0001).take(dataset, "train")
