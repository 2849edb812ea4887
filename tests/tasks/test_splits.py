import logging
import shutil

import pytest
from PIL import Image

from ray_classy.dataset import ImagePathDataset
from ray_classy.dataset.split import Split
from ray_classy.errors import CheckpointError
from ray_classy.tasks.splits import check_split, log_split, recorded_split
from tests.helpers import make_task


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (2, 2)).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def task_of(folder, split=None):
    task = make_task()
    for side in ("train", "test"):
        dataset = ImagePathDataset(2, False, image_folder=str(folder))
        task.set_dataset(dataset if split is None else split.take(dataset, side), side)
    return task


def content_of(task):
    return {"ray_classy": {"split": recorded_split(task.datasets)}}


SPLIT = Split(0.4, stratify=True)


def test_the_same_rule_and_rows_are_resumed_also_in_another_place(folder, tmp_path):
    content = content_of(task_of(folder, SPLIT))
    shutil.copytree(folder, tmp_path / "moved")
    assert check_split(task_of(tmp_path / "moved", SPLIT), content) == []
    assert check_split(task_of(folder), {"ray_classy": {}}) == []


def test_added_and_removed_files_are_one_warning(folder, caplog):
    task = task_of(folder, SPLIT)
    before = content_of(task)
    shutil.copy(folder / "cat/0.png", folder / "cat/new.png")
    with caplog.at_level(logging.WARNING):
        log_split(task_of(folder, SPLIT), before, "run/epoch_1")
    assert caplog.messages == [
        "the run of the checkpoint run/epoch_1 was trained on one side of a split of 20 rows; some were added since, "
        "and there are 21: the others are on the side where they were"
    ]
    (folder / "cat/new.png").unlink()
    (folder / "cat/0.png").unlink()
    assert "some were removed since" in check_split(task_of(folder, SPLIT), before)[0]


def test_renamed_files_are_an_error(folder):
    before = content_of(task_of(folder, SPLIT))
    (folder / "cat/0.png").rename(folder / "cat/other.png")
    with pytest.raises(CheckpointError, match="some have other ids: files were renamed"):
        check_split(task_of(folder, SPLIT), before)


@pytest.mark.parametrize("other", [Split(0.3, stratify=True), Split(0.4), Split(0.4, stratify=True, seed=1)])
def test_another_rule_is_an_error(folder, other):
    before = content_of(task_of(folder, SPLIT))
    with pytest.raises(
        CheckpointError, match=r"it was {test: 0.4, stratify: True}, and is {test: 0\..* or start a new"
    ):
        check_split(task_of(folder, other), before)


def test_a_split_that_began_or_ended_with_the_resumed_run_is_an_error(folder):
    with pytest.raises(CheckpointError, match=r"there is no dataset\.split now"):
        check_split(task_of(folder), content_of(task_of(folder, SPLIT)))
    with pytest.raises(CheckpointError, match=r"was trained without dataset\.split"):
        check_split(task_of(folder, SPLIT), content_of(task_of(folder)))


def test_other_data_may_be_evaluated(folder):
    task = task_of(folder)
    task.test_only = True
    assert check_split(task, content_of(task_of(folder, SPLIT))) == []
