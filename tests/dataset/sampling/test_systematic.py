import numpy as np
import pytest

from ray_classy.dataset.sampling.systematic import offset_of, summed, systematic_counts

WEIGHTS = np.random.default_rng(0).random(200) ** 4


@pytest.mark.parametrize("draws", [1, 7, 200, 1013])
@pytest.mark.parametrize("weights", [WEIGHTS, np.ones(200), np.arange(200), np.full(200, 0.1)])
def test_counts_are_the_shares_rounded_down_or_up(weights, draws):
    shares = draws * weights / weights.sum()
    for epoch in range(5):
        counts = systematic_counts(summed(weights, draws), draws, offset_of(3, epoch))
        assert counts.sum() == draws
        assert (np.abs(counts - shares) < 1 + 1e-9).all()
        whole = np.isclose(shares, np.rint(shares))
        assert np.array_equal(counts[whole], np.rint(shares[whole]))


def test_counts_are_the_shares_on_average():
    draws = 50
    ends = summed(WEIGHTS, draws)
    mean = np.mean([systematic_counts(ends, draws, offset_of(1, epoch)) for epoch in range(400)], axis=0)
    assert np.abs(mean - draws * WEIGHTS / WEIGHTS.sum()).max() < 0.02


@pytest.mark.parametrize("weights", [np.array([1e-30, 1.0]), np.array([1e300, 1e299]), np.array([0.0, 2.0, 0.5])])
def test_weights_of_any_size_are_sums_that_fit(weights):
    ends = summed(weights, 1_000_000)
    assert (np.diff(ends, prepend=0) > 0).tolist() == (weights > 0).tolist()
    assert 0 < int(ends[-1]) * 1_000_000 < 2**62


def test_offsets_of_epochs_differ():
    offsets = [offset_of(0, epoch) / 2**64 for epoch in range(8)]
    assert np.diff(sorted(offsets)).min() > 0.05
    assert offset_of(0, 0) != offset_of(1, 0)
