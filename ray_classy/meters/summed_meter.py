"""Meters whose counts are sums over rows, and one reduction for all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from ray_classy.distributed import all_reduce_sum
from ray_classy.meters.classy_meter import ClassyMeter
from ray_classy.meters.named_meter import NamedMeter


class SummedMeter(ClassyMeter):
    """A meter whose counts over all processes are the sum of those of each."""

    @abstractmethod
    def unsynced_counts(self) -> torch.Tensor:
        """Returns the counts of this process since the last synchronisation, a float64 vector on their device.

        Every process must call it, and gets a vector of the same length.
        """

    @abstractmethod
    def add_synced_counts(self, counts: torch.Tensor) -> None:
        """Adds the sum of all processes' `unsynced_counts`, which restart at 0.

        Args:
            counts: float64, on any device.
        """

    def sync_state(self) -> None:
        """Sums the counts of all processes, in one reduction; every process must call it."""
        sync_meters([self])


def sync_meters(meters: Sequence[ClassyMeter]) -> None:
    """Synchronises meters, all `SummedMeter`s in one reduction; every process must call it.

    Args:
        meters: the same on every process; those with a `sync_state` of their own synchronise themselves.
    """
    summed: list[SummedMeter] = []
    for meter in (one.meter if isinstance(one, NamedMeter) else one for one in meters):
        if isinstance(meter, SummedMeter) and type(meter).sync_state is SummedMeter.sync_state:
            summed.append(meter)
        else:
            meter.sync_state()
    if not summed:
        return
    parts = [meter.unsynced_counts() for meter in summed]
    device = next((part.device for part in parts if part.is_cuda), parts[0].device)
    total = all_reduce_sum(torch.cat([part.to(device) for part in parts]))
    for meter, counts in zip(summed, total.split([len(part) for part in parts]), strict=True):
        meter.add_synced_counts(counts)
