import io
import json
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ray_classy.dataset import ParquetDataset, build_dataset
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import config_keys

COMMON = {"name": "parquet", "batchsize_per_replica": 2, "use_shuffle": False}
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


BYTES = pa.array([png(pixels) for pixels in PIXELS])


def dataset(path, image=BYTES, label=(0, 1, 2, 1), names=("image", "label"), **arguments):
    label = label if isinstance(label, (pa.Array, pa.DictionaryArray)) else pa.array(label)
    pq.write_table(pa.table([image, label], list(names)), path)
    return ParquetDataset(2, False, files=str(path), **arguments)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.parquet"


IMAGES = {
    "bytes": BYTES,
    "large_bytes": BYTES.cast(pa.large_binary()),
    "struct": pa.array([{"bytes": value.as_py(), "path": "a.png"} for value in BYTES]),
    "nested_lists": pa.array(PIXELS.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))),
    "fixed_size_lists": pa.array(PIXELS.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8(), 3), 5), 6)),
    "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_every_kind_of_image(file, kind):
    data = dataset(file, IMAGES[kind])
    assert all(np.array_equal(np.asarray(data[i]["input"]), PIXELS[i]) for i in range(4))


def test_grey_arrays(file):
    images = pa.array(PIXELS[:, :, :, 0].tolist(), pa.list_(pa.list_(pa.uint8())))
    assert np.array_equal(np.asarray(dataset(file, images, image_mode="L")[1]["input"]), PIXELS[1, :, :, 0])


def test_struct_with_a_path_only(file, tmp_path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "x.png")
    images = pa.array(
        [{"bytes": None, "path": str(tmp_path / "x.png")}], pa.struct({"bytes": "binary", "path": "string"})
    )
    assert np.array_equal(np.asarray(dataset(file, images, [0], root=str(tmp_path))[0]["input"]), PIXELS[0])


@pytest.mark.parametrize("path", ["http://127.0.0.1:9/x.png", "/etc/hostname", "x.png"])
@pytest.mark.parametrize("root", [None, "below"])
def test_paths_in_rows_lead_nowhere_but_below_root(file, tmp_path, path, root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS[0]).save(tmp_path / "x.png")
    images = pa.array([{"bytes": None, "path": path}], pa.struct({"bytes": "binary", "path": "string"}))
    with pytest.raises(DataError, match=r"row 0 of .*: (the row has no bytes|the row's path|there is no file)"):
        dataset(file, images, [0], root=root and str(tmp_path / root))[0]


def test_integer_labels(file):
    data = dataset(file)
    assert [data[i]["target"] for i in range(4)] == [0, 1, 2, 1] == data.labels().tolist()
    assert data.classes is None


@pytest.mark.parametrize("encode", [lambda array: array, lambda array: array.dictionary_encode()])
def test_string_labels_are_sorted(file, encode):
    data = dataset(file, label=encode(pa.array(["dog", "cat", "dog", "ant"])))
    assert data.classes == ["ant", "cat", "dog"] and data.labels().tolist() == [2, 1, 2, 0]
    assert data[0]["target"] == 2


def test_string_labels_in_the_order_given(file):
    data = dataset(file, label=["b", "a", "b", "a"], classes=["b", "c", "a"])
    assert data.labels().tolist() == [0, 2, 0, 2] and data.num_classes == 3


def test_no_labels(file):
    data = dataset(file, label_column=None)
    assert set(data[0]) == {"input"} and data.labels() is None


def test_other_column_names(file):
    data = dataset(file, names=("img", "class"), image_column="img", label_column="class")
    assert data[1]["target"] == 1


@pytest.mark.parametrize("form", ["folder", "glob", "list"])
def test_several_files_in_name_order(tmp_path, form):
    for name, labels in (("b", [2, 3]), ("a", [0, 1])):
        pq.write_table(pa.table({"image": BYTES[:2], "label": labels}), tmp_path / f"{name}.parquet")
    a, b = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
    data = ParquetDataset(
        2, False, files={"folder": str(tmp_path), "glob": f"{tmp_path}/*.parquet", "list": [a, b]}[form]
    )
    assert [data[i]["target"] for i in range(4)] == [0, 1, 2, 3]


def test_config_defaults_to_the_imagenet_transform(file):
    dataset(file)
    batch = next(iter(build_dataset({**COMMON, "files": str(file)}).iterator()))
    assert batch["input"].shape == (2, 3, 224, 224) and batch["target"].tolist() == [0, 1]


def test_config_leaves_the_size_of_grey_images(file):
    dataset(file)
    data = build_dataset({**COMMON, "files": str(file), "image_mode": "L"})
    assert data[0]["input"].shape == (1, 6, 5)


def test_batches_from_worker_processes(file):
    dataset(file)
    data = build_dataset({**COMMON, "files": str(file), "num_workers": 1})
    assert torch.cat([batch["target"] for batch in data.iterator()]).tolist() == [0, 1, 2, 1]


def test_picklable(file):
    assert pickle.loads(pickle.dumps(dataset(file)))[2]["target"] == 2


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        ParquetDataset(2, False, files=str(tmp_path / "nowhere.parquet"))


def test_file_of_another_kind(file):
    file.write_text("no parquet")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        ParquetDataset(2, False, files=str(file))


def test_missing_column_names_those_there_are(file):
    with pytest.raises(DataError, match=r"it has images, label; did you mean 'images'"):
        dataset(file, names=("images", "label"))


def test_missing_column_in_a_later_file(tmp_path, file):
    dataset(file)
    with pytest.raises(DataError, match=r"b\.parquet has no column 'label'"):
        dataset(tmp_path / "b.parquet", names=("image", "other"))
        ParquetDataset(2, False, files=str(tmp_path))


@pytest.mark.parametrize("image", [pa.array([1, 2, 3, 4]), pa.array([[1], [2], [3], [4]]), pa.array(["a"] * 4)])
def test_column_without_images(file, image):
    with pytest.raises(DataError, match="holds no images"):
        dataset(file, image)


def test_floating_point_labels(file):
    with pytest.raises(DataError, match="double"):
        dataset(file, label=[0.0, 1.0, 2.0, 3.0])


def test_no_rows(file):
    with pytest.raises(DataError, match="no rows"):
        dataset(file, BYTES[:0], pa.array([], pa.int64()))


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        ([0, 1, 2, 1], ["a", "b"], "row 2: label 2"),
        ([0, -3, 2, 1], None, "row 1: label -3 is negative"),
        (pa.array([0, 2**63, 2, 1], pa.uint64()), None, "row 1: label 9223372036854775808 is too large"),
        (["cat", "dog", "cta", "dog"], ["cat", "dog"], "row 2: label 'cta'.*'cat'"),
        ([0, 1, None, 1], None, "row 2: no label"),
    ],
)
def test_label_that_is_not_a_class(file, label, classes, message):
    with pytest.raises(DataError, match=message):
        dataset(file, label=label, classes=classes)


def test_damaged_image(file):
    data = dataset(file, pa.array([{"bytes": b"oops", "path": "a.png"}] * 4))
    with pytest.raises(DataError, match=r"row 0 of .*a\.parquet \(a\.png\): not an image"):
        data[0]


def test_null_image(file):
    with pytest.raises(DataError, match="null"):
        dataset(file, pa.array([None, None, None, None], pa.binary()))[0]


def test_unknown_mode(file):
    with pytest.raises(ComponentError, match="image_mode"):
        dataset(file, image_mode="CMYK")


def test_keys_of_the_config():
    keys = config_keys(ParquetDataset)
    assert {"files", "image_column", "label_column", "classes", "image_mode", "max_bad_rows"} <= set(keys)


@pytest.fixture
def folder(tmp_path):
    """Two files of two rows in a folder."""
    for number in range(2):
        rows = slice(2 * number, 2 * number + 2)
        dataset(tmp_path / f"{number}.parquet", BYTES[rows], (0, 1, 2, 1)[rows])
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "/*.parquet", "/1.parquet"])
def test_files_of_a_store_are_read_as_those_of_a_disk(folder, s3, pattern):
    s3.copy(folder, "data")
    here, there = (ParquetDataset(2, False, files=place) for place in (f"{folder}{pattern}", s3.url(f"data{pattern}")))
    assert len(here) == len(there) == (2 if "1" in pattern else 4)
    assert there.labels().tolist() == here.labels().tolist()
    assert all(there[i]["input"].tobytes() == here[i]["input"].tobytes() for i in range(len(here)))


def test_no_parquet_file_in_a_store(s3):
    with pytest.raises(DataError, match=r"no \.parquet file at 's3://"):
        ParquetDataset(2, False, files=s3.url("nowhere"))
    with pytest.raises(DataError, match=r"s3://.*a\.parquet.* cannot be read as a Parquet file"):
        ParquetDataset(2, False, files=s3.put("a.parquet", b"no parquet"))


def targets(sample):
    return {"target": sample["target"]}


def rewrite(path, rows):
    pq.write_table(pa.table({"image": BYTES[:rows], "label": list(range(rows))}), path)


@pytest.mark.parametrize("change", ["rewritten", "removed", "cut"])
def test_a_file_that_changes_stops_the_next_phase(folder, change):
    data = ParquetDataset(2, False, targets, files=str(folder))
    assert len(list(data.iterator())) == 2
    path = folder / "1.parquet"
    {"rewritten": lambda: rewrite(path, 3), "removed": path.unlink, "cut": lambda: os.truncate(path, 100)}[change]()
    with pytest.raises(DataError, match=r"1\.parquet' was (changed|removed) since the run began"):
        data.iterator()


def test_a_file_that_changes_during_a_phase_is_never_read(folder):
    data = ParquetDataset(2, False, targets, files=str(folder))
    data.dataset.threads = 0  # which would have read the next batch already
    batches = iter(data.iterator())
    next(batches)
    rewrite(folder / "1.parquet", 3)
    with pytest.raises(DataError, match=r"1\.parquet' was changed since the run began"):
        next(batches)


def test_a_phase_whose_files_changed_under_it_does_not_end(folder):
    data = ParquetDataset(2, False, targets, files=str(folder))
    batches = iter(data.iterator())
    next(batches)
    next(batches)
    rewrite(folder / "0.parquet", 3)
    with pytest.raises(DataError, match=r"0\.parquet' was changed since the run began"):
        next(batches)


def test_a_file_with_other_rows_is_recognised_by_their_number(folder, s3):
    """Where a store tells no time of change, and for a file of the same size."""
    data = ParquetDataset(2, False, files=s3.copy(folder, "data"))
    rows = data.dataset.rows
    rows.sizes[1] = 3
    with pytest.raises(DataError, match=r"1\.parquet.* was changed since the run began: it had 3 rows, and has 2"):
        rows.table(1)


@pytest.mark.parametrize("label", [[True, False, True, False], pa.array([1, 0, 1, 0]).dictionary_encode()])
def test_labels_of_other_types_that_are_integers(file, label):
    assert dataset(file, label=label).labels().tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("text", ["None", "nan", "True", "1.5"])
def test_any_text_is_a_name(file, text):
    assert dataset(file, label=["cat", text, text, "cat"]).classes == sorted(["cat", text])


@pytest.mark.parametrize("label", [["", "a", "b", "c"], [" ", "a", "b", "c"], [None, "a", "b", "c"]])
def test_text_without_a_name(file, label):
    with pytest.raises(DataError, match="row 0: no label"):
        dataset(file, label=label)


def test_names_that_differ_in_spaces_only(file):
    with pytest.raises(DataError, match=r"the class 'cat ' and 'cat' differ in spaces only"):
        dataset(file, label=["cat", "cat ", "dog", "dog"])


def test_a_column_that_is_there_twice(file):
    pq.write_table(pa.table([BYTES, pa.array([0] * 4), pa.array([1] * 4)], ["image", "label", "label"]), file)
    with pytest.raises(DataError, match=r"a\.parquet has 2 columns 'label': rename all but one, or set label_column"):
        ParquetDataset(2, False, files=str(file))


def named(path, names):
    """A file whose labels have the names of a `ClassLabel`."""
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    table = pa.table({"image": BYTES, "label": [0, 1, 0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(table, path)
    return str(path)


def test_classes_without_a_common_name_rename_those_of_the_file(file):
    data = ParquetDataset(2, False, files=named(file, ["n01440764", "n01443537"]), classes=["tench", "goldfish"])
    assert data.classes == ["tench", "goldfish"] and data.labels().tolist() == [0, 1, 0, 1] and data[1]["target"] == 1
    assert "renames the classes of" in data.remarks[0] and "n01440764 is tench" in data.remarks[0]


@pytest.mark.parametrize("classes", [["goldfish", "Tench"], ["goldfish", "shark"], ["eel", "shark", "ray"]])
def test_classes_that_rename_only_some_are_refused(file, classes):
    with pytest.raises(DataError, match="`classes` lacks names"):
        ParquetDataset(2, False, files=named(file, ["tench", "goldfish"]), classes=classes)


def test_labels_that_fit_two_readings_are_remarked(file):
    data = dataset(file, label=[0, 1, 2, 1], classes=["0", "2", "1"])
    assert data.labels().tolist() == [0, 2, 1, 2]
    assert data.remarks == [
        "labels are read as the names in `classes`, not as positions: label 2 is the class '2', at position 1"
    ]
    for label, classes in (([0, 1, 0, 1], ["0", "1", "10", "2"]), ([10, 1, 0, 1], ["0", "1", "10", "2"])):
        assert dataset(file, label=label, classes=classes).remarks == []


def test_a_file_without_names_has_those_of_the_others(tmp_path):
    dataset(tmp_path / "a.parquet", label=[1, 1, 0, 0])
    named(tmp_path / "b.parquet", ["cat", "dog"])
    data = ParquetDataset(2, False, files=str(tmp_path))
    assert data.classes == ["cat", "dog"] and data.labels().tolist() == [1, 1, 0, 0, 0, 1, 0, 1]


def test_files_that_name_their_labels_differently(tmp_path):
    for name, names in (("a", ["cat", "dog"]), ("b", ["dog", "cat"])):
        named(tmp_path / f"{name}.parquet", names)
    with pytest.raises(DataError, match=r"differently: .*a\.parquet has cat, dog, .*b\.parquet has dog, cat"):
        ParquetDataset(2, False, files=str(tmp_path))


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b'{"info": 3}', b"[" * 10_000, b'{"info": {"features": {"label": [1]}}}']
)
def test_metadata_of_another_form_name_nothing(file, text):
    table = pa.table({"image": BYTES, "label": [0, 1, 0, 1]}).replace_schema_metadata({"huggingface": text})
    pq.write_table(table, file)
    assert ParquetDataset(2, False, files=str(file)).classes is None


def partitioned(folder, *names):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        rows = pa.table({"image": BYTES[number : number + 1]})
        pq.write_table(rows, folder / name / "part-0.parquet")
        (folder / name / "_SUCCESS").touch()
    return ParquetDataset(2, False, files=str(folder))


@pytest.mark.parametrize(
    ("names", "targets", "classes"),
    [
        (["label=ant", "label=cat"], [0, 1], ["ant", "cat"]),
        (["label=10", "label=2"], [10, 2], None),
        (["split=a/label=b%20c", "split=a/label=d"], [0, 1], ["b c", "d"]),
    ],
)
def test_folders_named_as_by_hive_give_the_labels(tmp_path, names, targets, classes):
    data = partitioned(tmp_path, *names)
    assert data.labels().tolist() == targets == [data[0]["target"], data[1]["target"]] and data.classes == classes
    assert pickle.loads(pickle.dumps(data))[1]["target"] == targets[1]


def test_a_folder_without_a_label(tmp_path):
    with pytest.raises(DataError, match=r"__HIVE_DEFAULT_PARTITION__/part-0\.parquet: no label"):
        partitioned(tmp_path, "label=__HIVE_DEFAULT_PARTITION__", "label=a")


def test_a_column_of_the_file_counts_before_its_folder(tmp_path):
    (tmp_path / "label=7").mkdir()
    assert dataset(tmp_path / "label=7" / "a.parquet").labels().tolist() == [0, 1, 2, 1]


def test_globs_of_folders(tmp_path):
    partitioned(tmp_path, "label=0", "label=1")
    assert ParquetDataset(2, False, files=f"{tmp_path}/label=*").labels().tolist() == [0, 1]
