import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy.dataset import CIFAR10Dataset, CIFARDataset, build_dataset, cifar_files
from ray_classy.dataset.cifar_files import LAYOUTS
from ray_classy.errors import CheckpointError, ComponentError, DataError

CONFIG = {"batchsize_per_replica": 4, "use_shuffle": False}


def pixels(seed, images=2):
    return np.random.default_rng(seed).integers(0, 256, (images, 3072), dtype=np.uint8)


def write(root, kind="cifar10", protocol=2, **changes):
    """Writes two images per file in the original layout; `changes` are those of the first file."""
    layout = LAYOUTS[kind]
    folder = root / layout.folder
    folder.mkdir(exist_ok=True)
    names = [f"class {number}" for number in range(layout.classes)]
    (folder / layout.meta).write_bytes(pickle.dumps({layout.names: names}, protocol))
    for seed, name in enumerate(layout.files[True] + layout.files[False]):
        content = {"batch_label": name, layout.labels: [seed, 9 - seed], "data": pixels(seed), "filenames": ["a", "b"]}
        (folder / name).write_bytes(pickle.dumps({**content, **(changes if seed == 0 else {})}, protocol))
    return str(root)


def pickled_by_python_2(data, labels):
    """Returns the pickle that Python 2 and its NumPy write: its strings are bytes, also those of an array."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    shape = b"(" + b"".join(b"J" + side.to_bytes(4, "little") for side in data.shape) + b"t"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    text = b"T" + data.nbytes.to_bytes(4, "little") + data.tobytes()
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    entries = b"U\x04data" + array + b"(K\x01" + shape + dtype + b"\x89" + text + b"tbU\x06labels" + numbers
    return b"\x80\x02}(" + entries + b"u."


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_samples_are_tuples_of_image_and_class(tmp_path, protocol):
    dataset = CIFAR10Dataset("train", 2, False, None, None, write(tmp_path, protocol=protocol), False)
    image, target = dataset[3]
    assert len(dataset) == 10 and isinstance(image, Image.Image) and target == 8 and dataset.classes[8] == "class 8"
    assert np.array_equal(np.asarray(image), pixels(1)[1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert dataset.labels().tolist() == [dataset[index][1] for index in range(10)]


def test_file_of_python_2(tmp_path):
    root = write(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickled_by_python_2(pixels(0), [3, 4]))
    image, target = CIFAR10Dataset("train", 2, False, None, None, root)[1]
    assert target == 4 and np.array_equal(np.asarray(image)[:, :, 2].ravel(), pixels(0)[1][2048:])


def test_split_is_train_or_the_other(tmp_path):
    config = {"name": "classy_cifar100", "root": write(tmp_path, "cifar100"), **CONFIG}
    for split, label in (("train", 0), ("test", 1), (None, 1)):
        assert build_dataset({**config, "split": split}).labels()[0] == label
    assert build_dataset(config).labels()[0] == 1


def test_batches_by_default(tmp_path):
    batch = next(iter(build_dataset({"name": "classy_cifar10", "root": write(tmp_path), **CONFIG}).iterator()))
    assert batch["input"].shape == (2, 3, 32, 32) and batch["input"].max() <= 1 and batch["target"].tolist() == [5, 4]


def test_batches_of_tuples(tmp_path):
    config = {"name": "classy_cifar10", "root": write(tmp_path), "split": "train", **CONFIG}
    apply = {"name": "apply_transform_to_key", "key": 0, "transforms": [{"name": "ToTensor"}]}
    dataset = build_dataset({**config, "transforms": [apply]})
    for _ in range(2):
        images, targets = next(iter(dataset.iterator()))
        assert (
            images.shape == (4, 3, 32, 32)
            and torch.equal(images[0], dataset[0][0])
            and targets.tolist() == [0, 9, 1, 8]
        )


def test_base_class_cannot_be_built(tmp_path):
    with pytest.raises(ComponentError, match="use CIFAR10Dataset"):
        CIFARDataset("train", 2, False, None, None, str(tmp_path))


@pytest.mark.parametrize(("key", "value"), [("split", "trian"), ("root", None)])
def test_impossible_arguments(tmp_path, key, value):
    with pytest.raises(ComponentError, match=key):
        build_dataset({"name": "classy_cifar10", "root": write(tmp_path), **CONFIG, key: value})


def test_missing_files_say_where_to_put_them(tmp_path):
    with pytest.raises(
        DataError, match=r"batches.meta'.*: unpack https://.*cifar-10-python.tar.gz into '.*holds the folder"
    ):
        build_dataset({"name": "classy_cifar10", "root": str(tmp_path), "download": True, **CONFIG})


class Evil:
    def __reduce__(self):
        return eval, ("1/0",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 10]}, r"labels that are not integers in \[0, 10\)"),
        ({"labels": [0]}, "no list 'labels' of 2 labels"),
        ({"data": np.zeros((2, 10), np.uint8)}, "no array 'data'"),
        ({"data": np.zeros((2, 3072), np.float32)}, "another type than uint8: 'f4'"),
        ({"labels": Evil()}, "something else than plain values and arrays of uint8: builtins.eval"),
    ],
)
def test_damaged_or_hostile_file(tmp_path, changes, message):
    with pytest.raises(DataError, match=rf"data_batch_1' .*{message}"):
        build_dataset({"name": "classy_cifar10", "root": write(tmp_path, **changes), "split": "train", **CONFIG})


def test_file_that_is_cut_off(tmp_path):
    root = write(tmp_path)
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match="test_batch' is not a file of CIFAR"):
        build_dataset({"name": "classy_cifar10", "root": root, **CONFIG})


def test_a_part_of_the_file_that_is_named_again_and_again_fills_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("ray_classy.dataset.cifar_files._MOST_BYTES", 10_000)
    text = "A" * 6000
    content = pickle.dumps([text.encode("latin1")], 2)  # `_codecs.encode` of a text
    assert cifar_files._CifarPickle(content, most=20_000).load() == [text.encode("latin1")]
    again = (
        b"\x80\x02("
        + b"".join(
            b"c_codecs\nencode\n"
            + (b"X" + (6000).to_bytes(4, "little") + text.encode() + b"q\x01" if not number else b"h\x01")
            + b"X\x06\x00\x00\x00latin1\x86R"
            for number in range(4)
        )
        + b"l."
    )
    with pytest.raises(CheckpointError, match="more than 20,000 bytes together"):
        cifar_files._CifarPickle(again, most=20_000).load()
