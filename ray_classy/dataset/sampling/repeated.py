"""Repeated augmentation: an epoch has some of the rows, each several times, transformed in another way each time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ray_classy.dataset.sampling.classy_sampling import ClassySampling, register_sampling
from ray_classy.errors import ComponentError, DataError

_IN_TURN = 3
"""Separates the order in which rows take their turns from those of other samplings."""


@register_sampling("repeated")
class RepeatedSampling(ClassySampling):
    """Gives each row of an epoch several times, one after the other, each time with other random transforms.

    So a step sees several views of an image (Hoffer et al., "Augment your batch", CVPR 2020; Berman et al.,
    arXiv:1902.05509), and an epoch is as long as one without repetition. Of N rows, an epoch has floor(N / repeats),
    and the next epochs have others: in epochs 0 to repeats - 1, and so on, each row is used exactly `repeats` times,
    except for the rest of the division, fewer than `repeats` rows, which are other ones each time.

    Args:
        repeats: how often each row of an epoch is used, at least 1.

    Raises:
        ComponentError: `repeats` is not a positive integer.
    """

    def __init__(self, repeats: int = 3) -> None:
        super().__init__()
        if type(repeats) is not int or repeats < 1:
            raise ComponentError(f"repeats must be an integer of at least 1, not {repeats!r}")
        self.repeats = repeats

    def check(self, dataset: Any) -> None:
        if len(dataset) < self.repeats:
            raise DataError(
                f"{len(dataset)} rows cannot be divided between {self.repeats} epochs: lower `repeats` of the sampling"
            )

    def num_rows(self, dataset: Any) -> int:
        return len(dataset) // self.repeats * self.repeats

    def counts(self, dataset: Any, seed: int, epoch: int) -> np.ndarray:
        counts = np.zeros(len(dataset), np.int64)
        counts[self._rows(dataset, seed, epoch)] = self.repeats
        return counts

    def order(self, dataset: Any, seed: int, epoch: int) -> np.ndarray:
        """Returns the rows of an epoch, numbered as in `ClassySampling`, each next to its repetitions."""
        rows = self._rows(dataset, seed, epoch)
        times = np.tile(np.arange(self.repeats), len(rows))
        return np.repeat(rows, self.repeats) + times * len(dataset.dataset)

    def remark(self, dataset: Any) -> str:
        rows = len(dataset) // self.repeats
        return f"an epoch has {self.num_rows(dataset):,} rows, {rows:,} of them {self.repeats} times each"

    def _rows(self, dataset: Any, seed: int, epoch: int) -> np.ndarray:
        cycle, turn = divmod(epoch, self.repeats)
        each = len(dataset) // self.repeats
        shuffled = np.random.default_rng([seed, _IN_TURN, cycle]).permutation(len(dataset))
        return shuffled[turn * each : (turn + 1) * each]
