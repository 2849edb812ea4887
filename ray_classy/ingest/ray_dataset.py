"""A dataset whose rows come from a `ray.data.Dataset`."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import ray
import ray.data

from ray_classy.dataset.decode import check_image_mode
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.labels import class_targets, is_string, targets_of
from ray_classy.dataset.parquet import encoded_sample
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.row_keys import text_keys
from ray_classy.errors import ComponentError, DataError
from ray_classy.ingest.block_columns import fetched_columns
from ray_classy.ingest.ray_ingest import ShardRows
from ray_classy.ingest.ray_stream import Stream, StreamRows
from ray_classy.ray_compat.data import known_rows
from ray_classy.registry import nearest
from ray_classy.urls import expanded

_log = logging.getLogger(__name__)


class RayDataset(ImageDataset):
    """Images and labels from a Ray Data pipeline: samples `{"input": image, "target": class}`.

    The pipeline runs once, here; its blocks stay in the cluster's shared memory (Ray spills what does not fit), and
    every rank of a `RayTrainer` reads from them the rows that the plan assigns to it, each exactly once per epoch.
    Images and labels are as in `ParquetDataset`, but Ray Data drops the names of a `ClassLabel`: give `classes`.
    `num_workers` is the number of decoding threads.

    With `stream`, training begins with the pipeline's first rows: it runs once per epoch, beside the training, and each
    row is used once per epoch, in the order of the pipeline.

    Args:
        dataset: a `ray.data.Dataset`.
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`; the task needs one that makes tensors of the images.
        num_samples: see `ClassyDataset`.
        image_column: name of the column of images.
        label_column: name of the column of labels; None for samples without a target.
        id_column: name of a column of values that differ from row to row, by which rows are sorted. Without one, the
            rows are in the order of the pipeline's output, which may differ in the next run: an interrupted run then
            resumes at the beginning of the epoch, not at the row. A streamed dataset is not sorted; every epoch must
            have the same ids.
        root: folder or URL below which images lie that rows only refer to (`{bytes: null, path: ...}`); None reads no
            such images.
        classes: class names in the order of their targets, or a file of them (see `read_classes`). Without them,
            string labels are sorted, and integer labels are the targets.
        image_mode: "RGB" or "L" (grey).
        max_bad_rows: images per phase that are skipped if they cannot be decoded; one more is an error.
        stream: whether the pipeline runs beside the training, once per epoch. Text labels then need `classes`.
        num_rows: rows of a streamed pipeline. Without it they are counted, which runs the pipeline once more where Ray
            does not know their number.

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: no such column, no rows, an id that is missing or occurs twice, or a label that is not one of
            the classes.
    """

    decodes = True
    _streams = False

    def __init__(
        self,
        dataset: Any,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None = None,
        num_samples: int | None = None,
        **named: Any,
    ) -> None:
        super().__init__(batchsize_per_replica, shuffle, transform, num_samples, dataset, **named)
        if self._streams:
            _log.info(
                "a streamed RayDataset is read in the order of its pipeline%s, and an interrupted run resumes at the "
                "beginning of the epoch, not at the row",
                ": shuffle there, use_shuffle has no effect" if shuffle else "",
            )

    def open_rows(
        self,
        dataset: Any,
        *,
        image_column: str = "image",
        label_column: str | None = "label",
        id_column: str | None = None,
        root: str | None = None,
        classes: list[str] | None = None,
        image_mode: Literal["RGB", "L"] = "RGB",
        max_bad_rows: int = 0,
        stream: bool = False,
        num_rows: int | None = None,
    ) -> RowDataset:
        check_image_mode(image_mode)
        self.image_mode = image_mode
        self.classes = classes
        columns = list(dict.fromkeys(name for name in (image_column, label_column, id_column) if name is not None))
        decode: Any = functools.partial(
            encoded_sample,
            image_column=image_column,
            label_column=label_column,
            mode=image_mode,
            files="the Ray Data dataset",
            root=root if root is None else expanded(root),
            options=self.image_options,
        )
        if type(stream) is not bool or (num_rows is not None and (type(num_rows) is not int or num_rows < 1)):
            raise ComponentError(
                f"stream must be true or false, not {stream!r}, and num_rows an integer of at least 1, not {num_rows!r}"
            )
        if num_rows is not None and not stream:
            raise ComponentError("num_rows is for a streamed pipeline: set stream to true, or leave num_rows out")
        if stream:
            self._streams, self.order_is_stable = True, False
            check = functools.partial(_check_block, columns=columns, label_column=label_column, classes=classes)
            schema = _checked(dataset, columns).schema(fetch_if_missing=False)
            if schema is not None:
                check(schema.base_schema.empty_table())
            length = _number_of_rows(dataset, num_rows)
            decode = functools.partial(decode, targets=None if classes is None else targets_of(classes))
            streamed = StreamRows(Stream(dataset, length, columns, id_column, check))
            return RowDataset(streamed, decode, max_bad_rows, cacheable=False)
        made = _with_columns(dataset, columns)
        if id_column is not None:
            made = made.sort(id_column)
        with _preserved_order(made):
            made = made.materialize()
        found = fetched_columns(made, [name for name in dict.fromkeys((label_column, id_column)) if name is not None])
        if id_column is not None:
            ids = found[id_column]
            _check_ids(ids, id_column)
            self._keys_of_rows = functools.partial(text_keys, _joined(ids))
            self._read_column = functools.partial(_sorted_column, dataset, id_column)
        else:
            self.order_is_stable = False
            _log.info(
                "the rows have no id_column, and their order may differ in the next run: an interrupted run resumes at "
                "the beginning of the epoch, not at the row"
            )
        rows = ShardRows.of(made)
        if not len(rows):
            raise DataError("the Ray Data dataset has no rows")
        by_label = None
        if label_column is not None:
            labels = found[label_column]
            sources = [f"block {number} of the Ray Data dataset" for number in range(len(labels))]
            targets = class_targets(labels, sources, label_column, classes)
            self._labels, self.classes, by_label, self.remarks = targets
        decode = functools.partial(decode, targets=by_label)
        return RowDataset(rows, decode, max_bad_rows)

    def plan(
        self, phase_type: str = "test", phase_id: int = 0, seed: int = 0, start: int = 0, shuffle_seed: int = 0
    ) -> PhasePlan:
        plan = super().plan(phase_type, phase_id, seed, start, shuffle_seed)
        return dataclasses.replace(plan, shuffle=False, together=True) if self._streams else plan

    def set_num_workers(self, num_workers: int) -> RayDataset:
        """Sets how many threads decode ahead."""
        self.dataset.threads = num_workers  # type: ignore[union-attr]  # other processes are not connected to Ray
        return self


@contextmanager
def _preserved_order(dataset: Any) -> Iterator[None]:
    options = dataset.context.execution_options  # the dataset's own: it ignores the current context
    before, options.preserve_order = options.preserve_order, True
    try:
        yield
    finally:
        options.preserve_order = before


def _with_columns(dataset: Any, columns: list[str]) -> Any:
    _check_columns(_checked(dataset, columns).columns(), columns)
    return dataset.select_columns(columns)


def _checked(dataset: Any, columns: list[str]) -> Any:
    if not isinstance(dataset, ray.data.Dataset):
        expected = f"expected a ray.data.Dataset with columns {', '.join(columns)}"
        raise DataError(f"{expected}; this one is a {type(dataset).__name__}")
    return dataset


def _check_columns(there: list[str] | None, columns: list[str]) -> None:
    if not there:
        raise DataError(f"expected a ray.data.Dataset with columns {', '.join(columns)}; this one has no rows")
    for column in columns:
        if column not in there:
            near = nearest(column, there)
            hint = f"did you mean {near}?" if near else "set image_column, label_column or id_column to one of them"
            raise DataError(f"the Ray Data dataset has no column {column!r}: it has {', '.join(there)}; {hint}")


def _number_of_rows(dataset: Any, given: int | None) -> int:
    """Returns the number of a pipeline's rows; runs it to count them if it is neither given nor known to Ray."""
    known = known_rows(dataset)
    if known is None and given is None:
        _log.info("counting the rows of the pipeline, which runs it once: give num_rows to spare that")
        known = int(dataset.count())
    rows = given if known is None else known
    if not rows:
        raise DataError("the Ray Data dataset has no rows")
    if given not in (None, rows):
        raise DataError(f"num_rows is {given}, but the Ray Data dataset has {rows} rows; leave it out")
    return rows


def _check_block(table: Any, columns: list[str], label_column: str | None, classes: list[str] | None) -> None:
    """Checks a block of a streamed pipeline, or its schema: the columns, and all labels."""
    _check_columns(table.column_names, columns)
    if label_column is None:
        return
    labels = table.column(label_column)
    if classes is None and is_string(labels.type):
        raise DataError(
            f"column {label_column!r} of a streamed RayDataset holds text, whose classes are known only when all of it "
            f"was read: list them in `classes`"
        )
    class_targets([labels], ["a block of the Ray Data dataset"], label_column, classes)


def _joined(parts: list[Any]) -> Any:
    """Returns the columns of all blocks as one."""
    import pyarrow as pa

    return pa.chunked_array([chunk for part in parts for chunk in part.chunks])


def _sorted_column(dataset: Any, id_column: str, name: str) -> Any:
    """Runs a pipeline for one more column, in the order of the ids."""
    made = _with_columns(dataset, list(dict.fromkeys([name, id_column]))).sort(id_column)
    with _preserved_order(made):
        return _joined(fetched_columns(made.materialize(), [name])[name])


def _check_ids(ids: list[Any], column: str) -> None:
    import pyarrow.compute as pc

    values = _joined(ids)
    if values.null_count:
        raise DataError(f"{values.null_count} rows have no id (null in column {column!r}); give each row one")
    if len(values) > 1 and not pc.all(pc.less(values[:-1], values[1:])).as_py():
        counts = pc.value_counts(values)
        number = pc.index(pc.greater(counts.field("counts"), 1), True).as_py()
        raise DataError(
            f"the id {counts.field('values')[number].as_py()!r} in column {column!r} occurs "
            f"{counts.field('counts')[number].as_py()} times; ids must differ from row to row"
        )
