import inspect
import logging
import os
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


def test_a_folder_of_a_store_is_read_as_one_of_a_disk(pets, s3):
    here, there = dataset(image_folder=str(pets)), dataset(image_folder=s3.copy(pets, "pets"))
    assert there.classes == here.classes and there.labels().tolist() == here.labels().tolist()
    assert [there[i]["input"].tobytes() for i in range(3)] == [here[i]["input"].tobytes() for i in range(3)]
    flat = dataset(image_folder=s3.url("pets/dog"))
    assert len(flat) == 2 and flat.labels() is None


def test_a_folder_of_a_store_is_listed_once(pets, s3):
    url = s3.copy(pets, "pets")
    for number in range(40):
        s3.put(f"pets/dog/{number}.png", b"")
    log = logging.getLogger("werkzeug")
    log.addHandler(requests := Kept())
    log.setLevel(logging.INFO)
    try:
        dataset(image_folder=url)
    finally:
        log.setLevel(logging.ERROR)
        log.removeHandler(requests)
    assert len(requests.lines) == 1 and "list-type=2" in requests.lines[0]


class Kept(logging.Handler):
    """Keeps the lines of a log."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def test_mistakes_in_a_store_are_those_of_a_disk(pets, s3):
    url = s3.copy(pets, "pets")
    with pytest.raises(DataError, match=r"nowhere.* does not exist, or is empty"):
        dataset(image_folder=s3.url("nowhere"))
    with pytest.raises(DataError, match=r"dog.*did you mean 'dogs'"):
        dataset(image_folder=url, classes=["cat", "dogs"])
    s3.put("pets/bird/notes.txt", b"")
    with pytest.raises(DataError, match=r"class folder 's3://.*/pets/bird.*has no images"):
        dataset(image_folder=url)
    s3.put("pets/stray.png", b"")
    with pytest.raises(DataError, match=r"1 images \(stray\.png.* beside the class folders \(bird"):
        dataset(image_folder=url)


def test_an_image_that_was_removed_or_changed_since(pets, s3):
    for folder, put, remove in (
        (str(pets), lambda name: save(pets / name), lambda name: os.remove(pets / name)),
        (s3.copy(pets, "p"), lambda name: s3.copy(pets / name, f"p/{name}"), lambda name: s3.remove(f"p/{name}")),
    ):
        data = dataset(image_folder=folder)
        data.dataset.decode.keywords["since"] -= 60
        put("dog/b.png")
        with pytest.raises(DataError, match=r"dog/b\.png.* was changed at .*, since the run began"):
            data[2]
        remove("dog/b.png")
        with pytest.raises(DataError, match=r"dog/b\.png.* was removed since the run began"):
            data[2]
        save(pets / "dog" / "b.png")


def test_images_that_come_later_do_not_count(pets):
    data = dataset(image_folder=str(pets))
    save(pets / "cat" / "a.png")
    assert len(data) == 3 and [data[i]["target"] for i in range(3)] == [0, 1, 1]


def test_the_signature_shows_the_common_arguments_and_the_datasets_own():
    names = list(inspect.signature(ImagePathDataset).parameters)
    assert names[:5] == ["batchsize_per_replica", "shuffle", "transform", "num_samples", "image_folder"]
    assert {"image_files", "batchsize_per_replica", "use_shuffle"} <= set(config_keys(ImagePathDataset))


def test_a_subclass_may_write_its_own_constructor(tmp_path):
    class Half(ImagePathDataset):
        def __init__(self, batchsize_per_replica, shuffle, transform=None, num_samples=None, *, where):
            super().__init__(batchsize_per_replica, shuffle, transform, num_samples, image_files=[where])

    assert "where" in config_keys(Half) and "image_folder" not in config_keys(Half)
    assert len(Half(1, False, where="a.png")) == 1


@pytest.mark.parametrize("name", ["a.pgm", "a.jfif", "a.JPE", "a.apng", "a", "a.img", "a.jpg_large"])
def test_images_are_found_by_extension_or_content(tmp_path, name):
    kind = {".pgm": "ppm", ".jfif": "jpeg", ".jpe": "jpeg"}.get(os.path.splitext(name)[1].lower(), "png")
    (tmp_path / "cat").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "cat" / name, format=kind)
    assert dataset(image_folder=str(tmp_path))[0]["input"].size == (4, 4)


def test_files_that_are_no_images_are_remarked(pets):
    (pets / "cat" / "BMW").write_text("BMW P3 ")
    assert dataset(image_folder=str(pets)).remarks == ["3 files passed over: 1 .md, 1 .txt, 1 no extension"]


def test_a_link_in_place_of_an_image_leads_somewhere(pets):
    os.symlink(pets / "dog" / "b.png", pets / "cat" / "link.png")
    assert len(dataset(image_folder=str(pets))) == 4
