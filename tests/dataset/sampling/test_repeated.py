import numpy as np
import pytest
import torch

from ray_classy.dataset.sampling import RepeatedSampling, build_sampling
from ray_classy.errors import ComponentError, DataError
from tests.helpers import vectors


def epochs(rows, repeats, number, seed=0):
    dataset, sampling = vectors(rows, shuffle=True), RepeatedSampling(repeats)
    return [sampling.order(dataset, seed, epoch) for epoch in range(number)]


@pytest.mark.parametrize(("rows", "repeats"), [(12, 3), (14, 4), (7, 1)])
def test_each_row_is_used_exactly_that_often_in_that_many_epochs(rows, repeats):
    used = np.bincount(np.concatenate(epochs(rows, repeats, repeats)) % rows, minlength=rows)
    assert (used == repeats).sum() == rows - rows % repeats and (used == 0).sum() == rows % repeats


def test_repetitions_follow_each_other_with_numbers_of_their_own():
    (order,) = epochs(12, 3, 1)
    assert (order.reshape(4, 3) == order[::3, None] + [0, 12, 24]).all() and len(set(order.tolist())) == 12


def test_epochs_and_cycles_have_other_rows():
    first, second, third, fourth = (set((order % 12).tolist()) for order in epochs(12, 2, 4))
    assert not first & second and first | second == third | fourth and first != third


def test_a_phase_transforms_each_repetition_in_another_way():
    dataset = vectors(8, shuffle=True, transform=lambda row: {**row, "input": row["input"] + torch.rand(())})
    dataset.sampling = build_sampling({"name": "repeated", "repeats": 2})
    batches = list(dataset.iterator(phase_type="train"))
    rows, inputs = (torch.cat([batch[key] for batch in batches]) for key in ("row", "input"))
    assert torch.equal(rows[::2], rows[1::2]) and len(rows) == 8
    assert not (inputs[::2] == inputs[1::2]).any()


def test_the_counts_are_those_of_the_order():
    dataset, sampling = vectors(9, shuffle=True), RepeatedSampling(2)
    counts = sampling.counts(dataset, 5, 1)
    assert (counts == np.bincount(sampling.order(dataset, 5, 1) % 9, minlength=9)).all()
    assert sampling.remark(dataset) == "an epoch has 8 rows, 4 of them 2 times each"


def test_impossible_repetitions_are_refused():
    with pytest.raises(ComponentError, match="repeats must be"):
        RepeatedSampling(0)
    with pytest.raises(DataError, match="lower `repeats`"):
        RepeatedSampling(4).check(vectors(3))
