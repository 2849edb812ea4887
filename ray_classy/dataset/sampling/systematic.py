"""Systematic sampling: counts in proportion to weights, each as near to its share as a whole number can be."""

from __future__ import annotations

import numpy as np

from ray_classy.seeding import derive_seed

_MOST = 2**62
_MOST_EXACT = 2**53
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio


def systematic_counts(ends: np.ndarray, draws: int, offset: int) -> np.ndarray:
    """Divides draws in proportion to weights: a share of s becomes floor(s) or ceil(s), and is s in expectation.

    Systematic resampling: the weights lie one after the other on a line, and equal steps over it, of which the first
    ends at the offset, count for the weight that they end on (Kitagawa, "Monte Carlo filter and smoother for
    non-Gaussian nonlinear state space models", 1996). So the same holds for the sum of neighbouring weights.

    Args:
        ends: sums of the weights up to each, as `summed` returns them for these draws, shape (n,).
        draws: how many to divide.
        offset: random number in [0, 2^64).

    Returns:
        int64, shape (n,), of the sum `draws`.
    """
    total = int(ends[-1])
    first = offset * total >> 64
    return np.diff(-((first - ends * draws) // total), prepend=0)


def summed(weights: np.ndarray, draws: int) -> np.ndarray:
    """Returns the sums of weights up to each, as integers in proportion to them, shape (n,), int64.

    Whole numbers are taken as they are. Others are rounded to multiples of their mean, divided by 2^62 / (n * draws):
    of a millionth of a millionth for 1,000 weights and draws, of 1 / 46,000 for 10 million. Those above 0 stay so.

    Args:
        weights: at least 0, not all 0, shape (n,).
        draws: how many will be divided.
    """
    largest = weights.max()
    bound = float(largest) * len(weights)
    if bound < _MOST_EXACT and bound * draws < _MOST and (weights == np.floor(weights)).all():
        return np.cumsum(weights.astype(np.int64))
    relative = weights / largest
    units = _MOST // 2 // draws - len(weights)
    if units < len(weights):
        raise OverflowError(f"{len(weights):,} weights cannot be divided into {draws:,} draws")
    whole = np.floor(relative * (units / np.cumsum(relative)[-1]))
    return np.cumsum(np.maximum(whole.astype(np.int64), relative > 0))


def offset_of(seed: int, epoch: int) -> int:
    """Returns the offset of an epoch, in [0, 2^64).

    Offsets of successive epochs lie evenly, as the multiples of the golden ratio do (a Kronecker sequence), so that a
    row with a share below one occurs at regular intervals.
    """
    return (derive_seed(seed, _GOLDEN) * 2 + epoch * _GOLDEN) & (2**64 - 1)
