"""What a report says about the rows of two phases."""

import numpy as np
import pytest
from PIL import Image

from ray_classy.dataset.data_report import data_report
from ray_classy.dataset.image_path_dataset import ImagePathDataset


@pytest.fixture
def folders(tmp_path):
    """Two folders of two classes, with two test images that are copies, one of them under another class."""
    generator = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 255, (9, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.bmp")
    for source, copy in (("train/a/0", "test/a/copy"), ("train/a/1", "test/b/copy")):
        (tmp_path / f"{copy}.bmp").write_bytes((tmp_path / f"{source}.bmp").read_bytes())
    return tmp_path


def reported(folders, **options):
    datasets = {side: ImagePathDataset(2, False, image_folder=str(folders / side)) for side in ("train", "test")}
    return "\n".join(data_report(datasets, **options))


def test_copies_of_train_images_are_found_by_content(folders):
    said = reported(folders)
    assert "2 of 10 test images are copies of train images" in said and "1 of them under another class" in said
    assert "images (all): 12 x 9 pixels, all grey" in said


def test_what_was_not_looked_at_is_said(folders):
    said = reported(folders, seconds=0)
    assert "0 of 18 files looked at, as time ran out" in said


def test_labels_that_are_ids_are_pointed_out(folders):
    for number in range(30):
        (folders / "train" / str(number)).mkdir()
        (folders / "train" / str(number) / "0.bmp").write_bytes((folders / "train/a/0.bmp").read_bytes())
    assert "the labels have 32 values in 38 rows, as ids have" in reported(folders)
