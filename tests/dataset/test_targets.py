import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ray_classy.dataset import ManifestDataset, ParquetDataset, build_dataset
from ray_classy.errors import ComponentError, DataError

PATHS = [f"{number}.png" for number in range(4)]


@pytest.fixture
def folder(tmp_path):
    for path in PATHS:
        Image.new("L", (3, 3), 7).save(tmp_path / path)
    return tmp_path


def csv(folder, header, *rows):
    lines = [f"path,{header}", *(f"{path},{row}" for path, row in zip(PATHS, rows, strict=True))]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "m.csv")


def jsonl(folder, **columns):
    rows = [dict(zip(["path", *columns], row, strict=True)) for row in zip(PATHS, *columns.values(), strict=True)]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(folder / "m.jsonl")


def parquet(folder, **columns):
    pq.write_table(pa.table({"path": PATHS, **columns}), folder / "m.parquet")
    return str(folder / "m.parquet")


def manifest(file, **arguments):
    return ManifestDataset(2, False, manifest=file, image_mode="L", **arguments)


def targets(dataset):
    return [dataset[row]["target"] for row in range(len(dataset))]


def matrix(dataset):
    return torch.stack(targets(dataset)).tolist()


LISTS = [["dog", "cat"], [], ["cat", "cat"], ["eel"]]
HOT = [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: (csv(folder, "label", "dog|cat", "", "cat |cat|", "eel"), {"label_separator": "|"}),
        lambda folder: (csv(folder, "label", *[f'"{labels}"' for labels in LISTS]), {}),
        lambda folder: (csv(folder, "label", '"[""dog"", ""cat""]"', "", '"[""cat""]"', '"[""eel""]"'), {}),
        lambda folder: (jsonl(folder, label=LISTS), {}),
        lambda folder: (parquet(folder, label=LISTS), {}),
        lambda folder: (
            csv(folder, "cat,dog,eel", "1,1,0", "0,0,0", "1.0,0,false", "0,0,1"),
            {"label_columns": ["cat", "dog", "eel"]},
        ),
        lambda folder: (
            jsonl(folder, has_a=[1, 0, 1, 0], has_b=[True, False, False, False], has_c=[0.0, 0.0, 0.0, 1.0]),
            {"label_columns": "has_*", "classes": ["cat", "dog", "eel"]},
        ),
    ],
)
def test_every_form_of_several_labels_gives_the_same_rows(folder, write):
    file, arguments = write(folder)
    dataset = manifest(file, **arguments)
    assert dataset.classes == ["cat", "dog", "eel"] and dataset.num_classes == 3
    assert matrix(dataset) == HOT and targets(dataset)[0].dtype == torch.float32


def test_parquet_rows_have_several_labels(folder):
    image = (folder / "0.png").read_bytes()
    pq.write_table(pa.table({"image": [image] * 4, "label": LISTS}), folder / "data.parquet")
    dataset = ParquetDataset(2, False, files=str(folder / "data.parquet"), image_mode="L")
    assert matrix(pickle.loads(pickle.dumps(dataset))) == HOT


def test_integers_in_lists_are_positions_in_classes_or_names(folder):
    file = jsonl(folder, label=[[10], [2, 10], [], [2]])
    assert manifest(file).classes == ["2", "10"]
    assert manifest(file, classes=["10", "2"]).classes == ["10", "2"]
    assert matrix(manifest(jsonl(folder, label=[[0], [1], [], [1]]), classes=["a", "b"])) == [
        [1, 0],
        [0, 1],
        [0, 0],
        [0, 1],
    ]


@pytest.mark.parametrize(
    ("write", "arguments", "message"),
    [
        (lambda f: jsonl(f, label=LISTS), {"classes": ["cat", "dogs", "eel"]}, r"row 0: label 'dog' .*mean 'dogs'"),
        (lambda f: jsonl(f, label=[["a"], [None], [], []]), {}, "row 1: a label in column 'label' is null"),
        (lambda f: jsonl(f, label=[["a"], "b", [], []]), {}, "row 1: column 'label' has 'b' .string., and rows before"),
        (lambda f: csv(f, "a,b", "1,0", "0,1", "2,0", "0,0"), {"label_columns": ["a", "b"]}, "csv, row 2: 2 in"),
        (lambda f: parquet(f, a=[0.0, float("nan"), 1, 1]), {"label_columns": ["a"]}, "row 1: nan in column 'a'"),
        (lambda f: csv(f, "a,b", "1,0", ",1", "0,0", "0,0"), {"label_columns": ["a", "b"]}, "row 1: no value in"),
        (lambda f: csv(f, "a", "1", "1", "0", "0"), {"label_columns": "b*"}, "has no column 'b.'"),
        (lambda f: csv(f, "a", *"1100"), {"targets": {"x": "colour"}}, "no column 'colour' of labels: it has path, a$"),
        (lambda f: csv(f, "label", "", "['a']", "b", "[]"), {}, "row 2: 'b' in column 'label' is not like the lists"),
    ],
)  # fmt: skip
def test_a_wrong_label_is_named_with_its_file_and_row(folder, write, arguments, message):
    with pytest.raises(DataError, match=message):
        manifest(write(folder), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_separator": ""}, "separator"),
        ({"label_columns": ["a"], "label_separator": "|"}, "leave one of them out"),
        ({"targets": {"a": "label"}, "classes": ["b"]}, "leave out classes"),
        ({"targets": {"a": {"colum": "label"}}}, "no key 'colum'"),
        ({"targets": {"a": {"column": "x", "columns": ["y"]}}}, "targets.a: give either"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(folder, arguments, message):
    with pytest.raises(ComponentError, match=message):
        manifest(csv(folder, "label", *"abcd"), **arguments)


def several(folder, **options):
    file = jsonl(
        folder,
        colour=["red", "blue", "red", None],
        tags=[["x"], [], None, ["y", "x"]],
        size=[0, 1, 2, 1],
        big=[1, None, 0, 0],
    )
    spec = {
        "colour": {"column": "colour", "optional": True},
        "tags": {"column": "tags", "optional": True},
        "size": "size",
        "flags": {"columns": ["big"], "optional": True},
    }
    return manifest(file, targets={**spec, **options})


def test_several_targets_are_a_dict_with_what_is_missing_marked(folder):
    rows = targets(several(folder))
    assert [row["colour"] for row in rows] == [1, 0, 1, -100] and [row["size"] for row in rows] == [0, 1, 2, 1]
    assert [row["tags"].tolist() for row in rows] == [[1, 0], [0, 0], [-100, -100], [1, 1]]
    assert [row["flags"].tolist() for row in rows] == [[1], [-100], [0], [0]]


def test_a_label_that_is_missing_and_not_optional_names_its_target(folder):
    with pytest.raises(DataError, match=r"targets.colour: .*m.jsonl, row 3: no label"):
        several(folder, colour="colour")


def test_classes_of_a_target_are_numbered_otherwise(folder):
    dataset = several(folder)
    dataset.map_targets({0: 2, 1: 0}, ["red", "green", "blue"], "colour")
    dataset.map_targets({0: 1, 1: 0}, ["y", "x", "z"], "tags")
    assert [row["colour"] for row in targets(dataset)] == [0, 2, 0, -100]
    assert targets(dataset)[3]["tags"].tolist() == [1, 1, 0] and targets(dataset)[0]["tags"].tolist() == [0, 1, 0]
    assert targets(dataset)[2]["tags"].tolist() == [-100] * 3


def test_counts_leave_out_what_is_not_known(folder):
    columns = several(folder).target_columns()
    assert [part.tolist() for part in columns["colour"].counts()] == [[1, 2], [3, 3]]
    assert [part.tolist() for part in columns["tags"].counts()] == [[2, 1], [3, 3]]
    assert [part.tolist() for part in columns["flags"].counts()] == [[1], [3]]
    assert (columns["tags"].rows_without_a_class, columns["tags"].rows_unlabelled) == (1, 1)


def test_a_selection_of_rows_has_their_targets(folder):
    chosen = several(folder).target_columns()["tags"].selected(np.array([3, 0]))
    assert [chosen.of_row(row).tolist() for row in (0, 1)] == [[1, 1], [1, 0]]
    assert chosen.fingerprint() != several(folder).target_columns()["tags"].selected(np.array([0, 3])).fingerprint()


def test_targets_are_given_in_a_config(folder):
    config = {"name": "manifest", "batchsize_per_replica": 2, "use_shuffle": False, "image_mode": "L"}
    file = csv(folder, "colour,tags", "red,x|y", "blue,", "red,y", "red,x")
    config["targets"] = {"colour": "colour", "tags": {"column": "tags", "separator": "|"}}
    batch = next(iter(build_dataset({**config, "manifest": file}).iterator()))
    assert batch["target"]["colour"].tolist() == [1, 0] and batch["target"]["tags"].tolist() == [[1, 1], [0, 0]]
