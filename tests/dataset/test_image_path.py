import pickle

import pytest
import torch
from PIL import Image

from ray_classy.dataset import ImagePathDataset, build_dataset
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import config_keys

COMMON = {"name": "image_path", "batchsize_per_replica": 2, "use_shuffle": False}


def save(path, colour="red", size=(10, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pets(tmp_path):
    save(tmp_path / "dog" / "b.png", "red")
    save(tmp_path / "dog" / "a.JPG", "blue")
    save(tmp_path / "cat" / "deep" / "c.webp", "green")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README.md").write_text("no image")
    return tmp_path


def dataset(**arguments):
    return ImagePathDataset(2, False, **arguments)


def test_class_per_folder(pets):
    data = dataset(image_folder=str(pets))
    assert data.classes == ["cat", "dog"] and data.num_classes == 2
    assert data.labels().tolist() == [0, 1, 1] == [data[i]["target"] for i in range(3)]


def test_files_come_in_name_order(pets):
    names = [path.rsplit("/", 1)[1] for path in dataset(image_folder=str(pets)).dataset.rows.column("path")]
    assert names == ["c.webp", "a.JPG", "b.png"]


def test_images_are_rgb(pets):
    image = dataset(image_folder=str(pets))[2]["input"]
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (255, 0, 0)


def test_flat_folder_has_no_targets(pets):
    data = dataset(image_folder=str(pets / "dog"))
    assert len(data) == 2 and set(data[0]) == {"input"} and data.labels() is None and data.classes is None


def test_files_have_no_targets(pets):
    assert set(dataset(image_files=[str(pets / "dog" / "b.png")])[0]) == {"input"}


def test_home_folder_is_expanded(pets, monkeypatch):
    monkeypatch.setenv("HOME", str(pets))
    assert len(dataset(image_folder="~/dog")) == 2


def test_config_defaults_to_the_imagenet_transform(pets):
    batch = next(iter(build_dataset({**COMMON, "image_folder": str(pets)}).iterator()))
    assert batch["input"].shape == (2, 3, 224, 224) and batch["target"].tolist() == [0, 1]


def test_config_with_transforms(pets):
    transforms = [{"name": "generic_image_transform", "transforms": [{"name": "Resize", "size": [4, 4]}]}]
    data = build_dataset({**COMMON, "image_folder": str(pets), "transforms": transforms})
    assert data[0]["input"].size == (4, 4)


def test_batches_from_worker_processes(pets):
    data = build_dataset({**COMMON, "image_folder": str(pets), "num_workers": 1})
    assert torch.cat([batch["target"] for batch in data.iterator()]).tolist() == [0, 1, 1]


def test_picklable(pets):
    data = pickle.loads(pickle.dumps(build_dataset({**COMMON, "image_folder": str(pets)})))
    assert data[1]["target"] == 1


def test_given_classes_set_the_targets(pets):
    data = dataset(image_folder=str(pets), classes=["dog", "bird", "cat"])
    assert data.labels().tolist() == [2, 0, 0] and data.num_classes == 3


def test_class_that_is_not_given_is_an_error(pets):
    with pytest.raises(DataError, match=r"dog.*did you mean 'dogs'"):
        dataset(image_folder=str(pets), classes=["cat", "dogs"])


@pytest.mark.parametrize("arguments", [{}, {"image_folder": "a", "image_files": ["b"]}])
def test_exactly_one_source(arguments):
    with pytest.raises(ComponentError, match="image_folder"):
        dataset(**arguments)


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        dataset(image_folder=str(tmp_path / "nowhere"))


def test_empty_folder_says_what_was_sought(tmp_path):
    with pytest.raises(DataError, match=r"\.webp"):
        dataset(image_folder=str(tmp_path))


def test_empty_class_folder(pets):
    (pets / "bird").mkdir()
    with pytest.raises(DataError, match="bird"):
        dataset(image_folder=str(pets))


def test_images_beside_class_folders(pets):
    save(pets / "stray.png")
    with pytest.raises(DataError, match=r"stray\.png"):
        dataset(image_folder=str(pets))


@pytest.mark.parametrize("files", [[], "a.png"])
def test_no_files(files):
    with pytest.raises(DataError, match="image_files"):
        dataset(image_files=files)


def test_damaged_image_is_named(pets):
    (pets / "dog" / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"dog/b\.png: empty"):
        dataset(image_folder=str(pets))[2]


def test_keys_of_the_config():
    keys = config_keys(ImagePathDataset)
    assert {"image_folder", "image_files", "classes", "max_bad_rows", "use_shuffle", "transforms"} <= set(keys)
