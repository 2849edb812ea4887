import functools

import pytest
import torch
from PIL import Image

from ray_classy.dataset import ClassyDataset, build_dataset
from ray_classy.dataset.measure import measure
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.errors import DataError
from tests.helpers import vectors

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        name = tmp_path / "ab"[number % 2]
        name.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (number, 0, 0)).save(name / f"{number}.png")
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    return tmp_path


def image_folder(folder, transforms):
    return build_dataset(
        {
            "name": "image_path",
            "image_folder": str(folder),
            "batchsize_per_replica": 4,
            "use_shuffle": True,
            "max_bad_rows": 1,
            "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": transforms}],
        }
    )


def test_each_step_of_a_folder_of_images_is_timed(folder):
    data = image_folder(folder, [{"name": "RandomCrop", "size": 16}, {"name": "ToTensor"}])
    speeds = measure(data, "train", 100, CPU)
    assert list(speeds.steps) == ["source", "decode", "transforms", "batches"]
    assert all(speed > 0 for speed in (*speeds.steps.values(), speeds.feed, speeds.dataloader, speeds.first_batch))


def test_steps_that_do_not_exist_are_omitted(folder):
    data = image_folder(folder, [{"name": "ToTensor"}])
    assert list(measure(data, "test", 100, CPU).steps) == ["source", "decode", "batches"]


@pytest.mark.parametrize("phase_type", ["train", "test"])
def test_rows_that_are_all_bad(tmp_path, phase_type):
    for number in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{number}.png").write_bytes(b"no image")
    data = image_folder(tmp_path, [{"name": "ToTensor"}])
    data.dataset.max_bad_rows = 3
    with pytest.raises(DataError, match="can be decoded"):
        measure(data, phase_type, 10, CPU)


FORKED = False


def note_process(sample, folder):
    """Leaves a file named after whether this process is, or was forked from, the one that set FORKED."""
    (folder / f"forked-{FORKED}").touch()
    return sample


def test_the_processes_of_the_dataloader_are_not_forked_from_one_with_threads(tmp_path, monkeypatch):
    base = RowDataset(ItemRows(value=list(range(16))), sample_of)
    base.threads = 2
    data = ClassyDataset(base, 4, False, functools.partial(note_process, folder=tmp_path))
    monkeypatch.setitem(globals(), "FORKED", True)
    measure(data, "train", 16, CPU)
    assert {file.name for file in tmp_path.iterdir()} == {"forked-True", "forked-False"}


def sample_of(row):
    return {"input": torch.ones(2) * row["value"], "target": 0}


def test_a_dataset_of_a_users_own_has_its_rows_for_a_source():
    assert list(measure(vectors(30), "train", 20, CPU).steps) == ["source"]
