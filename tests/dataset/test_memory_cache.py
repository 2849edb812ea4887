"""Small datasets are cached in memory."""

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy.dataset import ClassyDataset, build_dataset, memory_cache
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.transforms import build_transforms
from ray_classy.errors import DataError

DIGITS = {"name": "digits", "batchsize_per_replica": 16, "use_shuffle": True, "split": "test", "num_samples": 100}


class Decode:
    """Counts how often rows are decoded."""

    def __init__(self, extra=None):
        self.count, self.extra = 0, extra

    def __call__(self, row):
        self.count += 1
        sample = {"input": torch.full((2,), float(row["value"])), "target": row["value"] % 3, "weight": 0.5}
        return {**sample, **({"extra": self.extra(row["value"])} if self.extra else {})}


def dataset(rows=20, transform=None, extra=None):
    return ClassyDataset(RowDataset(ItemRows(value=list(range(rows))), Decode(extra)), 6, True, transform)


def batches(made, phase=0, **options):
    return list(made.iterator(phase_type="train", current_phase_id=phase, seed=1, **options))


def same(one, other):
    return len(one) == len(other) and all(
        first.keys() == second.keys()
        and all(torch.equal(first[k], second[k]) and first[k].dtype == second[k].dtype for k in first)
        for first, second in zip(one, other, strict=True)
    )


def passed_by(monkeypatch):
    monkeypatch.setattr("ray_classy.dataset.loader.cached_batches", lambda *_: iter(()))


def test_batches_from_memory_are_those_of_the_usual_way(monkeypatch):
    made = dataset()
    ours = [batches(made, phase) for phase in range(2)]
    passed_by(monkeypatch)
    assert all(same(one, batches(dataset(), phase)) for phase, one in enumerate(ours))


def test_digits_from_memory_are_those_of_the_usual_way(monkeypatch):
    ours = batches(build_dataset(DIGITS))
    passed_by(monkeypatch)
    assert same(ours, batches(build_dataset(DIGITS)))


def test_rows_are_decoded_once():
    made = dataset()
    for phase in range(3):
        batches(made, phase)
    assert made.dataset.decode.count == 20


def test_rows_with_random_transforms_are_decoded_once_but_drawn_again():
    def transform(sample):
        sample["input"] = sample["input"] + torch.rand(1)
        return sample

    made = dataset(transform=transform)
    first, second = batches(made, 0), batches(made, 1)
    assert made.dataset.decode.count == 20
    assert not torch.equal(
        torch.cat([b["input"] for b in first]).sort()[0], torch.cat([b["input"] for b in second]).sort()[0]
    )


def test_rows_that_differ_between_epochs_are_not_cached():
    made = ClassyDataset(RowDataset(ItemRows(value=list(range(20))), Decode(), cacheable=False), 6, True)
    for phase in range(2):
        batches(made, phase)
    assert made.dataset.decode.count == 40 and pickle.loads(pickle.dumps(made)).dataset._decoded is None


def test_a_transform_that_changes_its_input_in_place_does_not_add_up():
    def transform(sample):
        sample["input"] += 1
        return sample

    made = dataset(transform=transform)
    first, second = batches(made, 0), batches(made, 0)
    assert same(first, second)


class Noisy(ClassyDataset):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return {**sample, "input": sample["input"] + torch.rand(1)}


def test_a_dataset_with_custom_samples_is_not_cached():
    made = Noisy(RowDataset(ItemRows(value=list(range(20))), Decode()), 6, False, None)
    assert not same(batches(made, 0), batches(made, 1))


def test_another_transform_is_seen():
    made = dataset()
    batches(made)
    made.transform = build_transforms([{"name": "apply_transform_to_key", "transforms": [{"name": "Identity"}]}])
    made.transform.transforms.append(lambda sample: {**sample, "input": sample["input"] + 100})
    assert all((batch["input"] >= 100).all() for batch in batches(made))


def test_changes_to_a_batch_do_not_reach_the_next_epoch():
    made = dataset()
    for batch in batches(made):
        batch["input"].zero_()
    assert torch.cat([batch["input"] for batch in batches(made)]).sum() > 0


@pytest.mark.parametrize(
    "extra",
    [
        str,
        lambda value: {"nested": value},
        lambda value: torch.zeros(value % 2 + 1),
        lambda value: torch.ones(2, requires_grad=True),
        lambda value: torch.zeros(2, dtype=torch.float64 if value % 2 else torch.float32),
        lambda value: value if value % 2 else True,
        lambda value: value if value % 2 else 0.5,
    ],
)
def test_what_does_not_fit_into_columns_goes_the_usual_way(extra, monkeypatch):
    made = dataset(extra=extra)
    try:
        ours = batches(made)
    except DataError as error:  # rows of different sizes do not make a batch either way
        assert "samples of one batch must have one size: 'extra' of row" in str(error)
        return
    assert len(ours) == 4 and sum(len(batch["target"]) for batch in ours) == 20
    assert made._cache.columns is None


@pytest.mark.parametrize(
    "extra",
    [
        lambda value: np.full((2, 3), value, np.int16),
        np.float32,
        bool,
        float,
        lambda value: torch.tensor(value * 1j),
        lambda value: torch.full((3, 1), value, dtype=torch.bfloat16).T,
        lambda value: torch.zeros(0, 2),
    ],
)
def test_columns_take_what_collation_makes_tensors_of(extra, monkeypatch):
    made = dataset(extra=extra)
    ours = [batches(made, phase) for phase in range(2)]
    assert made.dataset.decode.count == 20
    passed_by(monkeypatch)
    assert all(same(one, batches(dataset(extra=extra), phase)) for phase, one in enumerate(ours))


def test_a_dataset_that_is_too_large_is_not_cached(monkeypatch):
    monkeypatch.setattr(memory_cache, "CACHE_BYTES", 100)
    monkeypatch.setattr("ray_classy.dataset.row_dataset.CACHE_BYTES", 100)
    made = dataset()
    for phase in range(2):
        batches(made, phase)
    assert made.dataset.decode.count >= 40 and made._cache.columns is None


def test_datasets_of_the_same_files_share_the_cache():
    first, second = build_dataset(DIGITS), build_dataset(DIGITS)
    batches(first)
    batches(second)
    assert first._cache.columns is second._cache.columns


def test_datasets_with_other_transforms_do_not():
    other = {**DIGITS, "transforms": [{"name": "apply_transform_to_key", "transforms": [{"name": "PILToTensor"}]}]}
    first, second = build_dataset(DIGITS), build_dataset(other)
    assert batches(first)[0]["input"].dtype != batches(second)[0]["input"].dtype


def test_copies_go_without_it():
    made = dataset()
    batches(made)
    made.dataset.decode = None
    assert "_cache" not in pickle.loads(pickle.dumps(made)).__dict__
    assert "_cache" not in copy.deepcopy(made).__dict__


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_transforms_of_images_are_not_cached_with_their_random_part(mode):
    transforms = [
        {"name": "apply_transform_to_key", "transforms": [{"name": "RandomHorizontalFlip"}, {"name": "PILToTensor"}]}
    ]
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).convert(mode)
    base = RowDataset(ItemRows(value=[0] * 64), lambda row: {"input": image, "target": 0})
    made = ClassyDataset(base, 64, False, build_transforms(transforms))
    flipped = [(b["input"][:, 0, 0, 0] == 3).sum().item() for phase in range(3) for b in batches(made, phase)]
    assert all(10 < count < 54 for count in flipped) and len(set(flipped)) > 1
