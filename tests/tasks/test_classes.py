"""The classes of the train dataset, the test dataset and a checkpoint, matched by name."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_classy.dataset import ImagePathDataset, ManifestDataset, ParquetDataset
from ray_classy.errors import DataError
from ray_classy.tasks.classes import label_note, match_classes, number_of_outputs, recorded_classes
from tests.helpers import make_task, vectors

NUMBERS = [str(number) for number in range(12)]


def folders(path, names):
    """A folder per class, with an image whose grey value is the place of its class in `names`."""
    for value, name in enumerate(names):
        (path / name).mkdir(parents=True)
        Image.new("L", (2, 2), value).save(path / name / "a.png")
    return ImagePathDataset(2, False, image_folder=str(path))


def manifest(path, labels, **arguments):
    path.mkdir(exist_ok=True)
    for value in range(len(labels)):
        Image.new("L", (2, 2), value).save(path / f"{value}.png")
    rows = "".join(f"{value}.png,{label}\n" for value, label in enumerate(labels))
    (path / "m.csv").write_text("path,label\n" + rows)
    return ManifestDataset(2, False, manifest=str(path / "m.csv"), **arguments)


def parquet(path, labels, names=None, **arguments):
    path.mkdir(exist_ok=True)
    table = pa.table({"image": [[[value]] for value in range(len(labels))], "label": labels})
    if names is not None:
        feature = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(table, path / "p.parquet")
    return ParquetDataset(2, False, files=str(path / "p.parquet"), image_mode="L", **arguments)


def matched(train, test, content=None):
    task = make_task().set_dataset(train, "train").set_dataset(test, "test")
    match_classes(task, content, "runs/a")
    return test


def values(dataset):
    """The target of each grey value, as the rows give it."""
    return {np.asarray(dataset[i]["input"]).max(): dataset[i]["target"] for i in range(len(dataset))}


def test_integers_in_a_test_file_mean_the_folders_of_that_name(tmp_path):
    train = folders(tmp_path / "train", NUMBERS)
    test = matched(train, manifest(tmp_path / "test", range(12)))
    assert train.classes[2] == "10" and values(test) == values(train)
    assert test.labels().tolist() == [test[i]["target"] for i in range(12)] and test.classes == train.classes


def test_integers_in_parquet_files_too(tmp_path):
    train = folders(tmp_path / "train", NUMBERS)
    assert values(matched(train, parquet(tmp_path / "test", list(range(12))))) == values(train)


def test_folders_of_integers_mean_the_integers_of_a_train_file(tmp_path):
    train = manifest(tmp_path / "train", range(12))
    test = matched(train, folders(tmp_path / "test", NUMBERS))
    assert test.classes is None and values(test) == values(train) == {value: value for value in range(12)}


def test_class_labels_of_hugging_face_are_names(tmp_path):
    train = parquet(tmp_path / "train", [0, 1, 2], ["owl", "cat", "dog"])
    test = matched(train, folders(tmp_path / "test", ["owl", "cat", "dog"]))
    assert train.classes == ["owl", "cat", "dog"] and values(test) == {0: 0, 1: 1, 2: 2}


def test_given_classes_take_class_labels_by_name(tmp_path):
    data = parquet(tmp_path / "p", [0, 1], ["owl", "cat"], classes=["cat", "dog", "owl"])
    assert data.labels().tolist() == [2, 0] == [data[0]["target"], data[1]["target"]]


def test_another_order_of_the_same_names(tmp_path):
    train = manifest(tmp_path / "train", ["b", "a"], classes=["b", "a"])
    test = matched(train, folders(tmp_path / "test", ["a", "b"]))
    assert test.classes == ["b", "a"] and values(test) == {0: 1, 1: 0}


def test_a_test_set_may_lack_classes(tmp_path):
    train = folders(tmp_path / "train", ["ant", "bee", "cat"])
    assert values(matched(train, folders(tmp_path / "test", ["cat"]))) == {0: 2}


def test_matching_again_changes_nothing(tmp_path):
    train = folders(tmp_path / "train", NUMBERS)
    test = matched(train, manifest(tmp_path / "test", range(12)))
    assert values(matched(train, test)) == values(train)
    assert values(matched(manifest(tmp_path / "other", range(12)), test))[10] == 10


@pytest.mark.parametrize("turn", [False, True])
def test_names_and_integers_that_nothing_connects(tmp_path, turn):
    pair = [folders(tmp_path / "train", ["ant", "bee"]), manifest(tmp_path / "test", [0, 1])]
    with pytest.raises(DataError, match=r"nothing says which number is which class.*classes: "):
        matched(*(pair[::-1] if turn else pair))


def test_integers_with_given_names_are_matched(tmp_path):
    train = folders(tmp_path / "train", ["ant", "bee"])
    assert matched(train, manifest(tmp_path / "test", [0, 1], classes=["bee", "ant"])).labels().tolist() == [1, 0]


def test_a_checkpoints_names_rule_over_those_of_the_data(tmp_path):
    content = {"ray_classy": {"classes": {"train": sorted(NUMBERS)}}}
    train, test = parquet(tmp_path / "train", list(range(12))), manifest(tmp_path / "test", range(12))
    matched(train, test, content)
    assert train.classes == test.classes == sorted(NUMBERS) and values(train)[10] == values(test)[10] == 2


def test_a_checkpoint_of_integers_and_folders_of_them(tmp_path):
    content = {"ray_classy": recorded_classes({"train": manifest(tmp_path / "a", range(12))})}
    train = folders(tmp_path / "train", NUMBERS)
    matched(train, folders(tmp_path / "test", ["10"]), content)
    assert values(train)[10] == 10 and content["ray_classy"]["unnamed_labels"] == ["train"]


def test_a_checkpoints_names_and_integers_that_nothing_connects(tmp_path):
    content = {"ray_classy": {"classes": {"train": ["ant", "bee"]}}}
    with pytest.raises(DataError, match=r"checkpoint runs/a was trained on: classes have names then \(ant, bee\)"):
        matched(manifest(tmp_path / "train", [0, 1]), vectors(4), content)


@pytest.mark.parametrize("record", [None, 3, {"classes": 3}, {"classes": {"train": 3}, "unnamed_labels": 3}])
def test_a_record_of_another_form_is_passed_over(tmp_path, record):
    matched(folders(tmp_path / "train", ["ant"]), vectors(4), {"ray_classy": record})


def test_ids_are_not_class_indices(tmp_path):
    with pytest.raises(
        DataError, match=r"3 different labels from 17 to 1200000.* 1,200,001 outputs.*'17', '204'.*num_c"
    ):
        number_of_outputs(manifest(tmp_path, [17, 1200000, 204]))


def test_ids_that_are_listed_are_names(tmp_path):
    data = manifest(tmp_path, [17, 1200000, 204], classes=["17", "204", "1200000"])
    assert data.labels().tolist() == [0, 2, 1] and number_of_outputs(data) == 3


def test_labels_from_1_are_described(tmp_path):
    data = manifest(tmp_path, [1, 2, 3])
    assert label_note(data, number_of_outputs(data)) == "3 labels (1 to 3), 4 outputs; no row of 0"


def test_named_classes_without_rows_are_described(tmp_path):
    data = manifest(tmp_path, ["cat", "Cat", "owl"], classes=["cat", "dog", "Cat", "owl"])
    note = "3 labels, 4 outputs; no row of dog; names that differ in case only: cat and Cat"
    assert label_note(data, 4) == note


def test_rows_without_a_class_are_described(tmp_path):
    assert label_note(manifest(tmp_path, [0, -1, 1]), 2) == "2 labels (0 to 1), 2 outputs; 1 rows without a class (-1)"


def test_a_flat_folder_is_told_the_layout_that_is_expected(tmp_path):
    folders(tmp_path, ["ant"])
    flat = ImagePathDataset(2, False, image_folder=str(tmp_path / "ant"))
    with pytest.raises(
        DataError, match=r"train dataset have no targets: .*ant' has no class folders: expected one fold"
    ):
        make_task().set_dataset(flat, "train").preflight()


def test_a_billion_outputs_are_described_at_once(tmp_path):
    note = label_note(manifest(tmp_path, [0, 1, 3]), 10**9)
    assert note == "3 labels (0 to 3), 1,000,000,000 outputs; no row of 2, 4, 5, 6, 7, ..."
