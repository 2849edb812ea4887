"""How much each parameter of a sweep matters: the share of the metric's variation that goes along with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST_TRIALS = 6
"""With fewer, any parameter seems to matter."""
_MOST_GROUPS = 4


@dataclass(frozen=True)
class Importance:
    """Of a parameter.

    Attributes:
        name: of the parameter.
        share: of the variation of the metric, in [0, 1].
    """

    name: str
    share: float


def importances(params: Sequence[dict[str, Any]], values: Sequence[float]) -> list[Importance]:
    """Returns the importance of each parameter that differs between trials, the largest first; none for few trials.

    It is epsilon squared (Kelley, "An unbiased correlation ratio measure", 1935) of the ranks of the metric between
    groups of trials: those of one category, or of neighbouring values of a number. It is computed for each parameter
    alone, so what matters only in combination is not seen.

    Args:
        params: of each trial.
        values: the metric of each trial.
    """
    if len(values) < LEAST_TRIALS:
        return []
    ranks = np.argsort(np.argsort(np.asarray(values, dtype=np.float64), kind="stable"), kind="stable").astype(
        np.float64
    )
    found = []
    for name in dict.fromkeys(name for one in params for name in one):
        groups = groups_of([one.get(name) for one in params])
        if groups is not None:
            found.append(Importance(name, _share(ranks, groups)))
    return sorted(found, key=lambda one: -one.share)


def groups_of(values: Sequence[Any]) -> np.ndarray | None:
    """Returns the number of the group of each value: its category, or a quantile of numbers; None if all are one."""
    if all(map(is_number, values)) and len(set(values)) > _MOST_GROUPS:
        order = np.argsort(np.argsort(np.asarray(values, dtype=np.float64), kind="stable"), kind="stable")
        count = max(2, min(_MOST_GROUPS, len(values) // 3))
        return order * count // len(values)
    known = {text: number for number, text in enumerate(dict.fromkeys(map(str, values)))}
    return np.array([known[str(value)] for value in values]) if 1 < len(known) < len(values) else None


def is_number(value: Any) -> bool:
    """Whether a value of a parameter is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _share(ranks: np.ndarray, groups: np.ndarray) -> float:
    total = float(((ranks - ranks.mean()) ** 2).sum())
    count = len(set(groups.tolist()))
    if not total or len(ranks) <= count:
        return 0.0
    within = sum(
        float(((part - part.mean()) ** 2).sum()) for part in (ranks[groups == one] for one in set(groups.tolist()))
    )
    return max(0.0, 1 - within / total * (len(ranks) - 1) / (len(ranks) - count))
