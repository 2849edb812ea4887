"""Ray Data: the blocks of a dataset."""

from __future__ import annotations

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
