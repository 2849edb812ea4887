import copy

import numpy as np
import pytest
from PIL import Image

from ray_classy.errors import ComponentError, ConfigError
from ray_classy.tasks import build_task
from ray_classy.tasks.data_sections import build_phase_dataset
from ray_classy.tasks.task_config import checked

TRANSFORMS = [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """One folder with 40 cats and 10 dogs, of which a fifth is for testing."""
    folder = tmp_path_factory.mktemp("data") / "pets"
    for name, count in {"pets/cat": 40, "pets/dog": 10, "others/cat": 8, "others/cow": 8}.items():
        (folder.parent / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder.parent / name / f"{number}.png")
    return {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {
            "split": {"test": 0.3, "stratify": True},
            "train": {
                "name": "image_path",
                "image_folder": str(folder),
                "batchsize_per_replica": 4,
                "transforms": TRANSFORMS,
                "sampling": {"name": "balanced", "rows": 20},
            },
            "test": {"transforms": TRANSFORMS},
        },
        "model": {"name": "mlp", "input_dim": 192, "output_dim": 2, "hidden_dims": [4]},
        "loss": {"name": "CrossEntropyLoss"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "use_gpu": False,
    }


def changed(config, path, value):
    made = copy.deepcopy(config)
    section = made["dataset"]
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return made


def test_one_source_is_read_in_both_phases(config):
    checked(config)
    task = build_task(config)
    train, test = (task.datasets[phase_type] for phase_type in ("train", "test"))
    assert len(train) + len(test) == 50
    assert train.shuffle and not test.shuffle and test.sampling is None
    assert test.get_batchsize_per_replica() == 4
    assert np.bincount(train.labels()[train.plan("train").order % len(train)]).tolist() == [10, 10]
    assert task.config["dataset"]["test"] == {"transforms": TRANSFORMS}


def test_the_test_section_may_be_left_out_and_has_the_transforms_of_the_dataset_then(config):
    made = copy.deepcopy(config)
    del made["dataset"]["test"]
    sample = build_phase_dataset(checked(made), "test")[0]
    assert tuple(sample["input"].shape) == (3, 224, 224)


def test_an_evaluation_reads_the_test_side(config):
    whole, only = build_task(config), build_task({**config, "test_only": True})
    assert list(only.datasets) == ["test"]
    assert len(only.datasets["test"]) == len(whole.datasets["test"])


def test_a_mistake_in_the_shared_source_is_reported_once(config):
    with pytest.raises(ConfigError) as caught:
        checked(changed(config, ["train", "image_folders"], "x"))
    assert str(caught.value).count("image_folders") == 1
    assert "dataset.train.image_folders: unknown key" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["split"], {"test": 1.5}, "dataset.split: test must be the share"),
        (["split"], {"train": 0.8}, "unknown key"),
        (["split"], {"test": 0.2, "id": "animal"}, "dataset.train: .*no columns"),
        (["test", "name"], "manifest", "dataset.test.name: with dataset.split both phases have one source"),
        (["test", "image_folder"], "{folder}/../others", "dataset.test: reads other rows than dataset.train"),
        (["test", "sampling"], {"name": "balanced"}, "sampling is for train phases"),
        (["train"], None, "dataset.train: missing"),
        (["train", "use_shuffle"], False, "dataset.train.use_shuffle: false, and sampling decides"),
        (["train", "sampling"], {"name": "balance"}, "unknown sampling 'balance': did you mean 'balanced'"),
    ],
)
def test_a_split_that_cannot_be_is_one_error(config, path, value, message):
    if isinstance(value, str):
        value = value.format(folder=config["dataset"]["train"]["image_folder"])
    with pytest.raises(ConfigError, match=message):
        build_task(checked(changed(config, path, value))).preflight()


def test_rows_that_a_dataset_batches_itself_cannot_be_sampled(config):
    stream = {"name": "synthetic_image_streaming", "crop_size": 8, "class_ratio": 0.5, "num_samples": 8, "seed": 0}
    made = changed(config, ["split"], None)
    made["dataset"] = {"train": {**stream, "batchsize_per_replica": 4, "sampling": {"name": "balanced"}}}
    with pytest.raises((ConfigError, ComponentError), match=r"leave sampling out|none is known before"):
        build_task(checked(made)).preflight()


def test_a_test_dataset_has_the_classes_of_the_train_dataset_by_number(config, tmp_path):
    folder = config["dataset"]["train"]["image_folder"]
    (tmp_path / "rows.csv").write_text("path,label\ncat/1.png,0\ndog/1.png,1\n")
    manifest = {"name": "manifest", "manifest": str(tmp_path / "rows.csv"), "root": folder, "classes": "as in train"}
    made = changed(config, ["split"], None)
    made["dataset"]["test"] = {**manifest, "batchsize_per_replica": 2, "transforms": TRANSFORMS}
    for options in ({}, {"test_only": True}):
        test = build_task(checked({**made, **options})).datasets["test"]
        assert test.classes == ["cat", "dog"] and test.labels().tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"dataset\.train\.classes: 'as in train' is for dataset\.test"):
        checked(changed(made, ["train", "classes"], "as in train"))
