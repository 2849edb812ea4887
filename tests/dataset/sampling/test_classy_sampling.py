import numpy as np
import pytest
import torch

from ray_classy.dataset import ClassyDataset, ParquetDataset
from ray_classy.dataset.digits import DATA_FOLDER
from ray_classy.dataset.sampling import BalancedSampling, ClassySampling
from ray_classy.dataset.transforms import ApplyTransformToKey, build_transforms
from ray_classy.errors import ComponentError

FILE = str(DATA_FOLDER / "digits_test.parquet")
TO_TENSOR = [{"name": "ToImage"}, {"name": "ToDtype", "dtype": "float32", "scale": True}]


def digits(*transforms, **options):
    transform = ApplyTransformToKey(build_transforms([*transforms, *TO_TENSOR]))
    dataset = ParquetDataset(32, True, transform, files=FILE, image_mode="L", **options)
    dataset.sampling = BalancedSampling(rows=250)
    return dataset


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_rows_of_an_epoch_whatever_their_number(world_size, monkeypatch):
    monkeypatch.setattr("ray_classy.dataset.classy_dataset.get_world_size", lambda: world_size)
    read = []
    for rank in range(world_size):
        monkeypatch.setattr("ray_classy.dataset.classy_dataset.get_rank", lambda rank=rank: rank)
        plan = digits().plan("train", 2, seed=5)
        read += [number for step, batch in enumerate(plan.batches()) if plan.share(step).rows for number in batch]
    expected = BalancedSampling(rows=250).order(digits(), 5, 2)
    assert sorted(read) == sorted(expected)


def test_a_phase_that_is_resumed_goes_on_with_the_next_row():
    plan = digits().plan("train", 1, seed=5)
    whole = np.concatenate(list(plan.batches()))
    rest = np.concatenate(list(digits().plan("train", 1, seed=5, start=plan.consumed(3)).batches()))
    assert np.array_equal(whole[plan.consumed(3) :], rest)


def test_parts_of_an_epoch_have_all_of_its_rows():
    dataset = digits()
    dataset.phases_per_epoch = 3
    parts = [np.concatenate(list(dataset.plan("train", phase, seed=5).batches())) for phase in range(3)]
    assert np.array_equal(np.concatenate(parts), BalancedSampling(rows=250).order(dataset, 5, 0))


@pytest.mark.parametrize(
    "transforms", [[], [{"name": "RandomResizedCrop", "size": 8}], [{"name": "RandomErasing", "p": 1.0}]]
)
def test_batches_have_the_rows_of_the_plan(transforms):
    dataset = digits(*transforms)
    order = dataset.plan("train").order
    for phase in (0, 0):  # the second time from memory
        batches = list(dataset.iterator(phase_type="train", current_phase_id=phase))
        targets = torch.cat([batch["target"] for batch in batches])
        assert targets.tolist() == dataset.labels()[order % len(dataset)].tolist()
    assert sorted(torch.bincount(targets).tolist()) == [25] * 10


@pytest.mark.parametrize("name", ["RandomResizedCrop", "RandomErasing"])
def test_a_row_that_is_used_again_is_transformed_otherwise(name):
    dataset = digits({"name": "RandomResizedCrop", "size": 8} if name == "RandomResizedCrop" else {"name": "Identity"})
    if name == "RandomErasing":
        dataset.transform = ApplyTransformToKey(
            build_transforms([*TO_TENSOR, {"name": "RandomErasing", "p": 1.0, "value": 0.3}])
        )
    dataset.sampling = BalancedSampling(rows=720)
    order = dataset.plan("train").order % len(dataset)
    inputs = torch.cat([batch["input"] for batch in dataset.iterator(phase_type="train")])
    for row in np.flatnonzero(np.bincount(order) > 1)[:20]:
        first, second = inputs[order == row][:2]
        assert not torch.equal(first, second)


def test_test_phases_read_each_row_once():
    assert sorted(digits().plan("test").order) == list(range(359))


def test_sampling_without_shuffling_is_an_error():
    dataset = digits()
    dataset.shuffle = False
    with pytest.raises(ComponentError, match="leave use_shuffle: false out"):
        dataset.plan("train")


def test_a_sampling_of_the_user_is_one_method():
    class Twice(ClassySampling):
        def num_rows(self, dataset):
            return 2 * len(dataset)

        def counts(self, dataset, seed, epoch):
            return np.full(len(dataset), 2)

    dataset = ClassyDataset(list(range(5)), 2, True)
    dataset.sampling = Twice()
    values = torch.cat(list(dataset.iterator(phase_type="train")))
    assert sorted(values.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
