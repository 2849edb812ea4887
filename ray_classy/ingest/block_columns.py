"""Columns of a Ray Data dataset. Nothing heavy is imported here: the module is read in processes that Ray starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from ray_classy.ray_compat.data import arrow_table, blocks_of


def fetched_columns(dataset: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Fetches columns of a dataset that has been executed; the others stay in the object store.

    Returns:
        An Arrow column for each block that has rows, by the name of the column.
    """
    read = ray.remote(num_cpus=0)(_columns)
    references = blocks_of(dataset)[0] if names else []
    blocks = [block for block in ray.get([read.remote(one, list(names)) for one in references]) if block is not None]
    return {name: [block[number] for block in blocks] for number, name in enumerate(names)}


def _columns(block: Any, names: list[str]) -> list[Any] | None:
    table = arrow_table(block)
    return [table.column(name) for name in names] if table.num_rows else None  # an empty block may lack them
