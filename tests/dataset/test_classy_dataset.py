import copy

import pytest
import torch
from torch import nn
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from ray_classy.dataset import (
    DATASET_REGISTRY,
    ClassyDataset,
    DataloaderLimitWrapper,
    build_dataset,
    register_dataset,
)
from ray_classy.dataset.known_classes import class_indices, class_names
from ray_classy.dataset.transforms import build_transforms
from ray_classy.dataset.transforms.util import build_field_transform_default_imagenet
from ray_classy.errors import ComponentError, DataError, UnknownComponentError
from tests.helpers import Vectors, make_task, train, vectors

SYNTHETIC = {
    "name": "synthetic_image",
    "crop_size": 4,
    "class_ratio": 0.5,
    "num_samples": 6,
    "seed": 0,
    "batchsize_per_replica": 2,
    "use_shuffle": False,
}


@pytest.mark.parametrize("arguments", [(0, False), (True, False), (2.0, False), (2, 1), (2, False, None, 0)])
def test_impossible_arguments(arguments):
    with pytest.raises(ComponentError):
        ClassyDataset(Vectors(4), *arguments)


def test_first_rows_only():
    dataset = ClassyDataset(Vectors(10), 2, False, num_samples=4)
    assert len(dataset) == 4 and sum(len(batch["target"]) for batch in dataset.iterator(phase_type="test")) == 4


def test_more_samples_than_rows():
    with pytest.raises(DataError, match="num_samples is 11"):
        len(ClassyDataset(Vectors(10), 2, False, num_samples=11))


def test_row_out_of_range():
    with pytest.raises(IndexError, match="row 4"):
        vectors(4)[4]


def test_transform_is_applied():
    assert vectors(4, transform=lambda sample: sample["row"])[3] == 3


def test_common_keys_of_a_config():
    dataset = build_dataset({**SYNTHETIC, "num_workers": 1, "drop_last": True, "phases_per_epoch": 2})
    assert (dataset.num_workers, dataset.drop_last, dataset.phases_per_epoch) == (1, True, 2)


@pytest.mark.parametrize("wrong", [{"num_workers": -1}, {"phases_per_epoch": 0}])
def test_impossible_keys(wrong):
    with pytest.raises(ComponentError, match=next(iter(wrong))):
        build_dataset({**SYNTHETIC, **wrong})


def test_config_is_not_written_to():
    config = {**SYNTHETIC, "transforms": [{"name": "tuple_to_map", "list_of_map_keys": ["input", "target"]}]}
    before = copy.deepcopy(config)
    build_dataset(config)
    assert config == before


def test_unknown_dataset_lists_near_names():
    with pytest.raises(UnknownComponentError, match="synthetic_image"):
        build_dataset({**SYNTHETIC, "name": "syntetic_image"})


def test_registered_under_their_names():
    assert {"synthetic_image", "image_path", "parquet", "digits"} <= set(DATASET_REGISTRY)


def test_batchsizes():
    assert vectors(8, 4).get_batchsize_per_replica() == vectors(8, 4).get_global_batchsize() == 4


def test_empty_dataset():
    with pytest.raises(DataError, match="train dataset has no rows"):
        vectors(0).plan("train")


def test_drop_last_that_leaves_nothing():
    with pytest.raises(DataError, match="drop_last"):
        vectors(3, 4, drop_last=True).plan("train")


def test_more_phases_than_rows():
    with pytest.raises(DataError, match="phases_per_epoch is 5"):
        vectors(3, phases_per_epoch=5).plan("train")


def test_batch_larger_than_the_dataset():
    assert len(train(make_task(train=3, test=2, batch=10)).losses) == 1


def test_own_iterator_is_used():
    class Own(ClassyDataset):
        def iterator(self, **options):
            assert {"phase_type", "current_phase_id", "seed"} <= options.keys()
            return torch.utils.data.DataLoader(self, batch_size=5)

    task = make_task(test=None).set_dataset(Own(Vectors(10), 2, False), "train")
    assert len(train(task).losses) == 2


def test_dataset_hears_of_the_end_of_a_phase():
    task, calls = make_task(train=4, test=4), []
    task.datasets["train"].on_phase_end = lambda: calls.append("train")
    train(task)
    assert calls == ["train"]


def test_sample_without_a_target_is_named():
    task = make_task(test=None)
    task.set_dataset(vectors(4, transform=lambda sample: {"input": sample["input"]}), "train")
    with pytest.raises(RuntimeError, match=r"`input` and `target`.*\['input'\]"):
        train(task)


def test_number_of_classes_may_be_set():
    dataset = vectors(4)
    assert dataset.num_classes is None
    dataset.num_classes = 7
    assert dataset.num_classes == 7


def test_classes_and_labels_of_a_users_own_meaning_are_passed_over():
    dataset = vectors(4)
    dataset.classes, dataset.labels = 5, [0, 1]
    assert dataset.num_classes is None and class_names(dataset) is None and class_indices(dataset) is None


def test_class_indices():
    dataset = vectors(4)
    dataset.labels = lambda: [0, 2]
    assert class_indices(dataset).tolist() == [0, 2]
    dataset.labels = lambda: [0.5, 2.0]
    assert class_indices(dataset) is None


def test_a_dataset_of_torchvision_is_trained():
    images = FakeData(size=21, image_size=(3, 2, 1), num_classes=4, transform=v2.Compose([v2.ToImage(), SCALE]))
    transform = build_transforms([{"name": "tuple_to_map", "list_of_map_keys": ["input", "target"]}])
    task = make_task(train=None, test=None)
    for phase_type in ("train", "test"):
        task.set_dataset(ClassyDataset(images, 4, phase_type == "train", transform), phase_type)
    task.set_model(nn.Sequential(nn.Flatten(), nn.Linear(6, 4)))
    metrics = train(task).phase_metrics()
    assert (metrics["accuracy"]["top_1"] * 21) % 1 == pytest.approx(0, abs=1e-6)


SCALE = v2.ToDtype(torch.float32, scale=True)


class Former(ClassyDataset):
    """A dataset as users of Classy Vision write it: its own constructor and from_config, tuples of a list."""

    def __init__(self, samples, batchsize_per_replica=1, num_samples=None, shuffle=False, transform=None):
        super().__init__(
            dataset=samples,
            batchsize_per_replica=batchsize_per_replica,
            shuffle=shuffle,
            transform=transform,
            num_samples=num_samples,
        )
        self.phases_seen = 0

    @classmethod
    def from_config(cls, config, samples=None):
        transforms, batchsize_per_replica, shuffle, num_samples = cls.parse_config(config)
        transform = build_field_transform_default_imagenet(transforms, default_transform=torch.nn.Identity())
        samples = samples or [(torch.full((6,), float(row)), row % 4) for row in range(config["rows"])]
        return cls(samples, batchsize_per_replica, num_samples, shuffle, transform)

    def iterator(self, *args, **kwargs):
        return DataloaderLimitWrapper(super().iterator(*args, **kwargs), 3)

    def on_phase_end(self):
        self.phases_seen += 1

    def get_classy_state(self):
        return {"phases_seen": self.phases_seen}

    def set_classy_state(self, state):
        self.phases_seen = state["phases_seen"]


@pytest.fixture
def former():
    register_dataset("former")(Former)
    yield {"name": "former", "rows": 8, "batchsize_per_replica": 4, "use_shuffle": True, "num_samples": None}
    del DATASET_REGISTRY._classes["former"]


def test_dataset_of_a_former_user_trains_and_is_restored(former):
    task = make_task(test=None, epochs=2).set_dataset(build_dataset(former), "train")
    state = train(task).get_classy_state()
    assert task.num_updates == 2 * 3 * 4 and state["train_dataset_iterator"] == {"phases_seen": 2}
    other = make_task(test=None, epochs=3).set_dataset(build_dataset(former), "train")
    other.prepare()
    other.set_classy_state(state)
    assert other.datasets["train"].phases_seen == 2


def test_further_arguments_reach_from_config(former):
    assert build_dataset(former, [(1, 2)])[0] == {"input": 1, "target": 2}
