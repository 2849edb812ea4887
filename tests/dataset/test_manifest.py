import gzip
import json
import os
import pickle
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ray_classy.dataset import ManifestDataset, build_dataset
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import config_keys
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer

COMMON = {"name": "manifest", "batchsize_per_replica": 2, "use_shuffle": False}
ROWS = [("a.png", "dog"), ("sub/b.jpg", "cat"), ("c.webp", "dog")]
COLOURS = {"a.png": "red", "sub/b.jpg": "blue", "c.webp": "green"}


@pytest.fixture
def folder(tmp_path):
    """Three images of different formats, sizes and modes."""
    (tmp_path / "sub").mkdir()
    for size, (name, colour) in enumerate(COLOURS.items(), 8):
        Image.new("L" if name == "sub/b.jpg" else "RGB", (size, 9), colour).save(tmp_path / name)
    return tmp_path


def csv(path, rows=ROWS, names=("path", "label"), delimiter=","):
    path.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in [names, *rows]))
    return str(path)


def jsonl(path, rows=ROWS):
    path.write_text("".join(json.dumps(dict(zip(("path", "label"), row, strict=True))) + "\n" for row in rows))
    return str(path)


def parquet(path, rows=ROWS):
    paths, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"path": paths, "label": labels}), path)
    return str(path)


def dataset(manifest, **arguments):
    return ManifestDataset(2, False, manifest=manifest, **arguments)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: csv(folder / "m.csv"),
        lambda folder: csv(folder / "m.tsv", delimiter="\t"),
        lambda folder: jsonl(folder / "m.jsonl"),
        lambda folder: jsonl(folder / "m.ndjson"),
        lambda folder: parquet(folder / "m.parquet"),
    ],
    ids=["csv", "tsv", "jsonl", "ndjson", "parquet"],
)
def test_every_kind_of_file(folder, write):
    data = dataset(write(folder))
    assert data.classes == ["cat", "dog"] and data.num_classes == 2
    assert [data[i]["target"] for i in range(3)] == [1, 0, 1] == data.labels().tolist()
    assert [(data[i]["input"].mode, data[i]["input"].width) for i in range(3)] == [("RGB", 8), ("RGB", 9), ("RGB", 10)]


def test_compressed_text(folder):
    (folder / "m.csv.gz").write_bytes(gzip.compress(b"path,label\na.png,dog\n"))
    assert dataset(str(folder / "m.csv.gz"))[0]["target"] == 0


def test_url_of_the_manifest_is_where_relative_paths_start(folder):
    csv(folder / "m.csv")
    data = dataset(f"file://{folder}/m.csv")
    assert data.dataset.rows.column("path")[0] == f"file://{folder}/a.png" and data[0]["input"].size == (8, 9)


def test_several_files_in_the_order_given(folder):
    first, second = jsonl(folder / "z.jsonl", ROWS[:1]), csv(folder / "a.csv", ROWS[1:])
    assert dataset([first, second]).labels().tolist() == [1, 0, 1]


def test_root_is_where_relative_paths_start(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert dataset(csv(elsewhere / "m.csv"), root=f"{folder}/")[1]["input"].size == (9, 9)


@pytest.mark.parametrize("form", ["{}/a.png", "file://{}/a.png"])
def test_whole_paths_stay_as_they_are(folder, form):
    path = form.format(folder)
    assert dataset(csv(folder / "m.csv", [(path, 0)]), root="/nowhere").dataset.rows.column("path") == [path]


def test_integer_labels_are_the_targets(folder):
    data = dataset(csv(folder / "m.csv", [("a.png", 3), ("c.webp", 0)]))
    assert data.labels().tolist() == [3, 0] and data.classes is None


@pytest.mark.parametrize(("classes", "targets"), [(["1", "0"], [1, 0]), (["cat", "dog"], [0, 1])])
def test_text_that_looks_like_numbers_is_names_where_classes_say_so(folder, classes, targets):
    assert dataset(csv(folder / "m.csv", [("a.png", 0), ("c.webp", 1)]), classes=classes).labels().tolist() == targets


def test_names_in_the_order_given(folder):
    assert dataset(csv(folder / "m.csv"), classes=["dog", "owl", "cat"]).labels().tolist() == [0, 2, 0]


def test_no_labels(folder):
    data = dataset(csv(folder / "m.csv", [("a.png",)], ("path",)), label_column=None)
    assert set(data[0]) == {"input"} and data.labels() is None


def test_other_column_names_beside_columns_of_any_kind(folder):
    (folder / "m.jsonl").write_text(
        '{"file": "a.png", "y": 0, "note": 1}\n\n{"file": "c.webp", "y": 1, "note": ["text"], "more": {}}\n'
    )
    assert dataset(str(folder / "m.jsonl"), path_column="file", label_column="y").labels().tolist() == [0, 1]


def test_quoted_text_with_delimiters_and_line_ends(folder):
    (folder / "m.csv").write_text('note,path,label\n"two\nlines, one",a.png,0\n')
    assert dataset(str(folder / "m.csv"))[0]["target"] == 0


def test_grey_images(folder):
    assert dataset(csv(folder / "m.csv"), image_mode="L")[0]["input"].mode == "L"


def test_home_folder_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    csv(folder / "m.csv")
    assert dataset("~/m.csv")[0]["target"] == 1


def test_config_defaults_to_the_imagenet_transform(folder):
    batch = next(iter(build_dataset({**COMMON, "manifest": csv(folder / "m.csv")}).iterator()))
    assert batch["input"].shape == (2, 3, 224, 224) and batch["target"].tolist() == [1, 0]


def test_batches_from_worker_processes(folder):
    data = build_dataset({**COMMON, "manifest": csv(folder / "m.csv"), "num_workers": 1})
    assert torch.cat([batch["target"] for batch in data.iterator()]).tolist() == [1, 0, 1]


def test_picklable(folder):
    assert pickle.loads(pickle.dumps(dataset(csv(folder / "m.csv"))))[1]["target"] == 0


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_long_manifest_makes_no_python_object_per_row(tmp_path, kind):
    rows = 200_000
    paths = [f"images/{number:09d}.jpg" for number in range(rows)]
    write = {"csv": csv, "jsonl": jsonl, "parquet": parquet}[kind]
    manifest = write(
        tmp_path / f"m.{kind}", [(path, "cat" if number % 2 else "dog") for number, path in enumerate(paths)]
    )
    dataset(manifest)  # imports
    blocks = sys.getallocatedblocks()
    tracemalloc.start()
    data = dataset(manifest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sys.getallocatedblocks() - blocks < 10_000 and peak < 30 * rows
    assert len(data) == rows and data.labels()[:3].tolist() == [1, 0, 1]


def test_trains(folder, tmp_path):
    shape = [{"name": "Resize", "size": [4, 4]}, {"name": "ToTensor"}]
    transforms = [{"name": "apply_transform_to_key", "key": "input", "transforms": shape}]
    phases = {
        "train": {**COMMON, "manifest": jsonl(folder / "train.jsonl"), "transforms": transforms},
        "test": {**COMMON, "manifest": parquet(folder / "test.parquet"), "transforms": transforms},
    }
    config = {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": phases,
        "model": {"name": "mlp", "input_dim": 48, "output_dim": 2, "hidden_dims": [4]},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "lr": 0.1},
    }
    result = LocalTrainer(storage_path=str(tmp_path / "runs")).train(build_task(config))
    assert 0 <= result.metrics["test"]["accuracy"]["top_1"] <= 1


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"no manifest '.*nowhere\.csv' \(looked in"):
        dataset(str(tmp_path / "nowhere.csv"))


@pytest.mark.parametrize("manifest", ["", []])
def test_no_file_is_given(manifest):
    with pytest.raises(ComponentError, match="manifest must be a path"):
        dataset(manifest)


def test_url_of_an_unknown_scheme():
    with pytest.raises(DataError, match=r"nope://a/m\.csv.*use a local path"):
        dataset("nope://a/m.csv")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("m.dat", "convert or rename"), ("m.txt", "for CSV, set delimiter"), ("m.json", "JSON Lines.*jsonl")],
)
def test_unknown_extension(tmp_path, name, hint):
    with pytest.raises(DataError, match=rf"{name}' is of an unknown kind: .*\.csv.*\.parquet; .*{hint}"):
        dataset(str(tmp_path / name))


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_missing_column_names_those_there_are(folder, name):
    write = {"m.csv": csv, "m.jsonl": jsonl, "m.parquet": parquet}[name]
    with pytest.raises(DataError, match=rf"{name} has no column 'paths': it has path, label.*did you mean 'path'"):
        dataset(write(folder / name), path_column="paths")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_labels_of_mixed_types(folder, name):
    write = {"m.csv": csv, "m.jsonl": jsonl}[name]
    with pytest.raises(DataError, match=r"mixed types.*row 0 has '?1'?.*row 2 has '?cat'?"):
        dataset(write(folder / name, [("a.png", 1), ("a.png", 2), ("c.webp", "cat")]))


def test_labels_of_mixed_types_in_two_files(folder):
    with pytest.raises(DataError, match=r"int64 \(.*a\.csv\) and string \(.*b\.csv\)"):
        dataset([csv(folder / "a.csv", [("a.png", 1)]), csv(folder / "b.csv")])


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_floating_point_labels(folder, name):
    write = {"m.csv": csv, "m.jsonl": jsonl}[name]
    with pytest.raises(DataError, match=rf"{name}, row 1: .*0\.5.* integer"):
        dataset(write(folder / name, [("a.png", 1), ("c.webp", 0.5)]))


def test_label_that_is_not_a_class(folder):
    with pytest.raises(DataError, match=r"m\.csv, row 1: label 'cat' is not among the classes: did you mean 'cats'"):
        dataset(csv(folder / "m.csv"), classes=["dog", "cats"])


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_row_without_a_path(folder, name):
    write = {"m.csv": csv, "m.jsonl": jsonl, "m.parquet": parquet}[name]
    with pytest.raises(DataError, match=rf"{name}, row 1: no path \(column 'path' is empty\); fill it in"):
        dataset(write(folder / name, [("a.png", 0), ("", 1)]))


def test_row_without_a_label(folder):
    with pytest.raises(DataError, match=r"m\.csv, row 1: no label"):
        dataset(csv(folder / "m.csv", [("a.png", 0), ("c.webp", "")]))


def test_no_rows(folder):
    with pytest.raises(DataError, match="no rows in"):
        dataset(csv(folder / "m.csv", []))


@pytest.mark.parametrize("name", ["m.csv", "m.parquet", "m.jsonl"])
def test_damaged_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name == "m.csv" else b"{\n")
    with pytest.raises(DataError, match=rf"{name}(, line 1: not (a )?JSON| cannot be read| is empty)"):
        dataset(str(tmp_path / name))


def test_column_of_other_things_than_paths(folder):
    with pytest.raises(DataError, match="'path' of type int64 holds no paths"):
        dataset(parquet(folder / "m.parquet", [(1, 0)]))


def test_missing_image_is_named_with_its_row_and_root(folder):
    first = csv(folder / "a.csv")
    data = dataset([first, csv(folder / "b.csv", [("a.png", "dog"), ("no.png", "dog")])])
    with pytest.raises(DataError, match=r"no file '.*no\.png' \(.*b\.csv, row 1; relative paths start at .*`root`"):
        data[4]


def test_damaged_image_is_named_with_its_row(folder):
    (folder / "a.png").write_bytes(b"oops")
    with pytest.raises(DataError, match=r"a\.png: not an image.*m\.csv, row 0\)"):
        dataset(csv(folder / "m.csv"))[0]


def test_bad_rows_are_skipped_if_the_config_says_so(folder):
    manifest = csv(folder / "m.csv", [*ROWS, ("no.png", "dog")])
    data = build_dataset({**COMMON, "manifest": manifest, "max_bad_rows": 1})
    assert torch.cat([batch["target"] for batch in data.iterator()]).tolist() == [1, 0, 1]


def test_unknown_mode(folder):
    with pytest.raises(ComponentError, match="image_mode"):
        dataset(csv(folder / "m.csv"), image_mode="CMYK")


def test_keys_of_the_config():
    keys = config_keys(ManifestDataset)
    assert {"manifest", "path_column", "label_column", "root", "classes", "image_mode", "max_bad_rows"} <= set(keys)


@pytest.mark.parametrize("write", [csv, jsonl, parquet])
def test_a_manifest_of_a_store_is_read_as_one_of_a_disk(folder, s3, write):
    name = f"m.{write.__name__}"
    write(folder / name)
    here, there = dataset(str(folder / name)), dataset(s3.copy(folder, "m").replace("/m?", f"/m/{name}?"))
    assert there.labels().tolist() == here.labels().tolist() and there.classes == here.classes
    assert [there[i]["input"].tobytes() for i in range(3)] == [here[i]["input"].tobytes() for i in range(3)]


def test_a_manifest_of_a_disk_may_name_a_store(folder, s3):
    s3.copy(folder, "images")
    data = dataset(csv(folder / "m.csv"), root=s3.url("images"))
    os.remove(folder / "a.png")
    assert data[0]["input"].size == (8, 9)
    s3.remove("images/c.webp")
    with pytest.raises(DataError, match=r"no file 's3://.*images/c\.webp.*m\.csv, row 2\)"):
        data[2]


def test_no_manifest_in_a_store(s3):
    with pytest.raises(DataError, match=r"no manifest 's3://.*nowhere\.csv"):
        dataset(s3.url("nowhere.csv"))


def text(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return str(path)


def paths(data):
    return [os.path.basename(path) for path in data.dataset.rows.column("path")]


@pytest.mark.parametrize(
    "content",
    [
        "path , label\n a.png, 0 \nc.webp ,1\n",
        "path,label\r\na.png,0\r\nc.webp,1",
        "path,label\ra.png,0\rc.webp,1\r",
        "\n\npath,label\n\na.png,0\n   \nc.webp,1\n\n",
        "\ufeffpath,label\na.png,0\nc.webp,1\n",
        ",\npath,label\na.png,0\nc.webp,1\n",
        ",,,\n , \n\n,\npath,label\n,,,\na.png,0\nc.webp,1\n",
        '"path","label"\n"a.png","0"\n"c.webp","1"\n',
        "path;label\na.png;0\nc.webp;1\n",
        "note;path;label\nx, y;a.png;0\n;c.webp;1\n",
        "path\tlabel\na.png\t0\nc.webp\t1\n",
        "path|label\na.png|0\nc.webp|1\n",
        "path,label,\na.png,0,\nc.webp,1,\n",
        "path,label,path2,path2\na.png,0,x,y\nc.webp,1,x,y\n",
    ],
)
def test_csv_as_programs_and_people_write_it(folder, content):
    data = dataset(text(folder / "m.csv", content))
    assert paths(data) == ["a.png", "c.webp"] and data.labels().tolist() == [0, 1] and data.classes is None


def test_tsv_that_has_commas_is_csv(folder):
    assert len(dataset(text(folder / "m.tsv", "path,label\na.png,0\n"))) == 1


@pytest.mark.parametrize(
    "content", ["a.png,0\nc.webp,1\n", "\ufeffa.png , 0\n\nc.webp,1", "a.png;0\nc.webp;1\n", ",\na.png,0\nc.webp,1"]
)
def test_csv_without_names_of_columns(folder, content):
    data = dataset(text(folder / "m.csv", content), path_column=0, label_column=1)
    assert paths(data) == ["a.png", "c.webp"] and data.labels().tolist() == [0, 1]


def test_lists_with_a_delimiter(folder):
    listed = text(folder / "val.txt", "a.png 3\nc.webp 0\n")
    assert dataset(listed, path_column=0, label_column=1, delimiter=" ").labels().tolist() == [3, 0]


def test_a_suffix_is_added_to_paths(folder):
    data = dataset(text(folder / "m.csv", "id,label\na,0\n"), path_column="id", path_suffix=".png")
    assert data[0]["input"].width == 8
    listed = text(folder / "n.csv", "a\n   \n\na\n")
    assert len(dataset(listed, path_column=0, label_column=None, path_suffix=".png")) == 2


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_a_byte_order_mark_is_no_content(folder, name):
    write = {"m.csv": csv, "m.jsonl": jsonl}[name]
    write(folder / name)
    (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert len(dataset(str(folder / name))) == 3


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_other_encodings_of_unicode(folder, name, encoding):
    with pytest.raises(DataError, match=rf"{name} is not UTF-8 text but UTF-16.*: save it as UTF-8"):
        dataset(text(folder / name, '{"path": "a.png", "label": 0}\n', encoding))


@pytest.mark.parametrize(("name", "line"), [("m.csv", "\u00e9.png,1"), ("m.jsonl", '{"path": "\u00e9", "label": 1}')])
def test_text_in_latin_1(folder, name, line):
    first = {"m.csv": "path,label", "m.jsonl": '{"path": "a.png", "label": 0}'}[name]
    with pytest.raises(DataError, match=rf"{name}, line 2: not UTF-8 text \(byte 0xe9\)"):
        dataset(text(folder / name, f"{first}\n{line}\n", "latin-1"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na.png,0,\n", r"line 2: 3 values \('a\.png,0,'\), where the first line has 2 names: put values"),
        ('path,label\n"x\ny",0\nc.webp\n', r"line 4: 1 values \('c\.webp'\).*: add what is missing"),
        ('path,label\na.png,0\n"c.webp,1\na.png,1\n', r"line 3: 1 values .*: a quote is not closed"),
        ("path,label,label\na.png,0,1\n", r"m\.csv has 2 columns 'label' in its first line: rename all but one"),
        ("path,labels\na.png,0\n", r"has no column 'label': it has path, labels in its first line; did you mean"),
        ("a.png,0\n", r"it has a\.png, 0 in its first line; set path_column to one of them, or to its number"),
        ("", r"m\.csv is empty"),
        ("\n \n", r"m\.csv is empty"),
    ],
)
def test_csv_that_is_wrong(folder, content, message):
    with pytest.raises(DataError, match=message):
        dataset(text(folder / "m.csv", content))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path_column": 0}, ComponentError, "both be names, or both numbers"),
        ({"path_column": 0, "label_column": -1}, ComponentError, "count from 0"),
        ({"path_column": 0, "label_column": 5}, DataError, r"row 0: there are 2 values, and the columns are 0, 5"),
        ({"path_column": 1.5}, ComponentError, "must be names or numbers"),
        ({"delimiter": ";;"}, ComponentError, "one character"),
        ({"delimiter": ";"}, DataError, "no column 'path': it has path,label"),
        ({"path_suffix": 3}, ComponentError, "path_suffix must be text"),
    ],
)
def test_columns_and_delimiters_that_cannot_be(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        dataset(csv(folder / "m.csv"), **arguments)


@pytest.mark.parametrize("arguments", [{"path_column": 0, "label_column": 1}, {"delimiter": ";"}])
@pytest.mark.parametrize("write", [jsonl, parquet])
def test_numbers_of_columns_are_for_csv(folder, write, arguments):
    with pytest.raises(ComponentError, match="only in CSV"):
        dataset(write(folder / f"m.{write.__name__}"), **arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "a.png", "label": 9999999999999999999}', "row 1: the integer in column 'label' is too large"),
        ('{"path": "a.png", "label": ' + "9" * 5000 + "}", "line 2: not JSON"),
        ('{"path": "a.png", "label": ' + "[" * 5000 + "}", "line 2: not JSON"),
        ('{"path": "a.png", "label": NaN}', "row 1: nan in column 'label'"),
        ('{"path": "a.png", "label": 0, "label": 1}', "cannot be read: .*specified twice"),
    ],
)
def test_json_that_is_wrong(folder, line, message):
    with pytest.raises(DataError, match=message):
        dataset(text(folder / "m.jsonl", '{"path": "a.png", "label": 0}\n' + line + "\n"))


@pytest.mark.parametrize("label", [str(2**63), "9" * 5000, "-" + "9" * 30])
def test_labels_that_are_too_large(folder, label):
    with pytest.raises(DataError, match=r"m\.csv, row 1: label .* is too large for a class index"):
        dataset(csv(folder / "m.csv", [("a.png", 0), ("a.png", label)]))
    assert dataset(csv(folder / "m.csv", [("a.png", label)]), classes=[label]).labels().tolist() == [0]


def test_names_of_class_labels_in_parquet(folder):
    feature = {"label": {"names": ["owl", "cat"], "_type": "ClassLabel"}}
    table = pa.table({"path": ["a.png", "c.webp"], "label": [0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(table, folder / "m.parquet")
    assert dataset(str(folder / "m.parquet")).classes == ["owl", "cat"]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_a_pipe_is_no_manifest(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is a folder, pipe or device"):
        dataset(str(tmp_path / name))


def test_a_wrong_row_that_is_not_utf_8_is_one_error(tmp_path, capsys):
    (tmp_path / "m.csv").write_bytes(b"path,label\na.png,0\n\xff,1,2\n")
    with pytest.raises(DataError, match="UTF-8"):
        build_dataset(
            {"name": "manifest", "manifest": str(tmp_path / "m.csv"), "batchsize_per_replica": 1, "use_shuffle": False}
        )
    assert capsys.readouterr().err == ""
