"""Ray Data: the blocks of a dataset, its number of rows, the seed of its next execution, limits on its restarts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.ray_compat import find, log_missing


def blocks_of(dataset: Any) -> tuple[list[Any], list[int]]:
    """References to a dataset's blocks, and the number of rows in each.

    The public `to_arrow_refs` does not give the numbers, which then take a task per block. Serves start-up time: each
    start of a worker group reads them. Ray 2.57 to 2.60 have it. Without it the rows are counted.
    """
    import ray

    if hasattr(dataset, "iter_internal_ref_bundles"):
        bundles = list(dataset.iter_internal_ref_bundles())
        references = [reference for bundle in bundles for reference in bundle.block_refs]
        return references, [metadata.num_rows for bundle in bundles for metadata in bundle.metadata]
    log_missing("Dataset.iter_internal_ref_bundles", "the rows of each block are counted by a task")
    count = ray.remote(num_cpus=0)(_num_rows)
    references = dataset.to_arrow_refs()
    return references, ray.get([count.remote(reference) for reference in references])


def streamed_blocks(dataset: Any) -> Iterator[tuple[Any, int]]:
    """Executes a dataset, and yields references to its blocks as they come, each with its number of rows.

    Serves start-up time: the blocks stay where they were made. Ray 2.57 to 2.60 have the interface for it. Without it
    they are put into the object store again.
    """
    import ray

    if hasattr(dataset, "iter_internal_ref_bundles"):
        for bundle in dataset.iter_internal_ref_bundles():
            yield from zip(bundle.block_refs, [metadata.num_rows for metadata in bundle.metadata], strict=True)
        return
    log_missing("Dataset.iter_internal_ref_bundles", "each block is copied once more")
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield ray.put(table), table.num_rows


def known_rows(dataset: Any) -> int | None:
    """The number of a dataset's rows, if Ray knows it without an execution; else None.

    The public `count` executes the dataset if need be. Serves start-up time. Ray 2.57 to 2.60 have `_meta_count`.
    Without it the number is not known.
    """
    count = getattr(dataset, "_meta_count", None)
    if count is None:
        log_missing("Dataset._meta_count", "the rows of a pipeline are counted")
        return None
    rows = count()
    return None if rows is None else int(rows)


def seed_for_epoch(dataset: Any, epoch: int) -> None:
    """Makes the next execution of a dataset draw as that of an epoch, where it has seeds that change with each.

    Ray counts executions in one process, from 0. Serves exact resuming: a run that resumes in another epoch would draw
    as in the first. Ray 2.57 to 2.60 have `DataContext._execution_idx`.
    """
    if hasattr(dataset.context, "_execution_idx"):
        dataset.context._execution_idx = epoch
    else:
        log_missing("DataContext._execution_idx", "a resumed run shuffles in its first epoch as in epoch 0")


def _num_rows(table: Any) -> int:
    return table.num_rows


def arrow_table(block: Any) -> Any:
    """A block, which may be a pandas data frame, as an Arrow table.

    `BlockAccessor` is a developer's interface. Ray 2.57 to 2.60 have it. Without it a data frame is converted by
    Arrow, which does not know columns of tensors.
    """
    import pyarrow as pa

    accessor = find("ray.data.block:BlockAccessor", "blocks are converted by Arrow, without columns of tensors")
    if accessor is not None:
        return accessor.for_block(block).to_arrow()
    return block if isinstance(block, pa.Table) else pa.Table.from_pandas(block, preserve_index=False)


def map_batches(dataset: Any, function: Any, limits: Mapping[str, int], **options: Any) -> Any:
    """Maps the batches of a dataset with limits on how often Ray starts a process again that dies.

    Ray Data's own default has no limit. Serves the promise never to wait without a message. Ray 2.57 and 2.58 take the
    limits as further arguments of `map_batches`. Ray 2.59 and 2.60 warn of them there, and take them without a warning
    in `map_batches_internal`, which is a developer's interface. Where neither takes them, there is no limit.

    Args:
        dataset: a dataset of Ray Data.
        function: a function or class, as for `Dataset.map_batches`.
        limits: "max_retries" of tasks; "max_restarts" and "max_task_retries" of actors.
        options: further named arguments of `Dataset.map_batches`.
    """
    method = getattr(dataset, "map_batches_internal", dataset.map_batches)
    parameters = inspect.signature(method).parameters
    further = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    taken = {name: limit for name, limit in limits.items() if further or name in parameters}
    if len(taken) < len(limits):
        names = ", ".join(sorted(limits.keys() - taken.keys()))
        log_missing(f"{names} of Dataset.map_batches", "a process that dies again and again is always started again")
    return method(function, **options, **taken)
