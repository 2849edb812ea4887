"""Says what is odd in the data of a task before it trains: its classes, labels and images, and copies of images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_classy.dataset.class_match import few
from ray_classy.dataset.classy_dataset import ClassyDataset
from ray_classy.dataset.copies import find_copies
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_sample import SAMPLED, ImageSample, sample_images
from ray_classy.dataset.known_classes import class_indices, class_names
from ray_classy.dataset.row_dataset import RowDataset, row_dataset_of

SECONDS = 15.0
"""How long a report may take; what was not looked at by then is said to be."""
_OF_IMAGES, _OF_TESTS = 0.3, 0.15
"""The parts of it for images to train on, and for test images."""
_IMBALANCE = 10
_FEW_ROWS = 5
_LEAST_ROWS = 20
"""Fewer rows than this say nothing about their labels."""


def data_report(
    datasets: Mapping[str, ClassyDataset], seconds: float = SECONDS, sample: ImageSample | None = None
) -> list[str]:
    """Returns lines about the rows of datasets of images, by phase type: what a user may not know of them.

    At most `SAMPLED` images are decoded. Local files of one size in both phases are compared by content.

    Args:
        datasets: "train" and "test"; others than datasets of images are left out.
        seconds: how long it may take.
        sample: of the train images, if they were looked at before.
    """
    end = time.monotonic() + seconds
    train, test = (_of_images(datasets.get(phase_type)) for phase_type in ("train", "test"))
    lines = [] if train is None else _class_lines(train)
    rows, others = _rows(train), _rows(test)
    if rows is not None:
        sample = sample or sample_images(rows, seconds * _OF_IMAGES)
        size = sample.size_line()
        lines += [*([] if size is None else [size]), *sample.problem_lines("train", rows.max_bad_rows)]
    if others is not None:
        seen = sample_images(others, seconds * _OF_TESTS, SAMPLED // 2)
        lines += seen.problem_lines("test", others.max_bad_rows)
    if train is not None and test is not None and rows is not None and others is not None:
        lines += _copy_lines(train, test, rows, others, end)
    return lines


def _of_images(dataset: Any) -> ImageDataset | None:
    return dataset if isinstance(dataset, ImageDataset) else None


def _rows(dataset: ImageDataset | None) -> RowDataset | None:
    base = row_dataset_of(dataset)
    return base if dataset is not None and dataset.decodes and base is not None and base.rows.random_access else None


def class_counts(dataset: ClassyDataset) -> tuple[list[str], np.ndarray] | None:
    """Returns the names of classes, or their numbers, and the rows of each; None where rows have no one class."""
    labels = class_indices(dataset)
    if labels is None or not (labels >= 0).any():
        return None
    known = class_names(dataset)
    counts = np.bincount(labels[labels >= 0], minlength=len(known or ()))
    return known if known is not None else [str(number) for number in range(len(counts))], counts


def _class_lines(train: ImageDataset) -> list[str]:
    found = class_counts(train)
    if found is None:
        return []
    names, counts = found
    used = np.flatnonzero(counts)
    rows = int(counts.sum())
    if rows >= _LEAST_ROWS and 2 * len(used) > rows:
        return [
            f"the labels have {len(used):,} values in {rows:,} rows, as ids have, not classes: name another column of "
            f"labels (dataset.train.label_column), or merge classes"
        ]
    lines = []
    most, least = used[counts[used].argmax()], used[counts[used].argmin()]
    if counts[most] >= _IMBALANCE * counts[least]:
        lines.append(
            f"classes are of unequal size: {names[most]} has {counts[most]:,} rows to train on, {names[least]} "
            f"{counts[least]:,}; dataset.train.sampling={{name: balanced}} shows each class equally often"
        )
    small = [number for number in used[np.argsort(counts[used], kind="stable")] if counts[number] < _FEW_ROWS]
    if small:
        lines.append(
            f"{len(small):,} of {len(used):,} classes have fewer than {_FEW_ROWS} rows to train on: "
            f"{few([f'{names[number]} ({counts[number]})' for number in small])}"
        )
    return lines


def _copy_lines(train: ImageDataset, test: ImageDataset, rows: RowDataset, others: RowDataset, end: float) -> list[str]:
    found = find_copies(rows, others, end)
    if found is None:
        return ["copies of train images among test images: not looked at, as the images are not local files"]
    lines = []
    if found.pairs:
        one, other = found.pairs[0][0][1], found.pairs[0][1][1]
        tests = len({row for (row, _), _ in found.pairs})
        otherwise = _otherwise(train, test, [(number, copy) for (number, _), (copy, _) in found.pairs])
        lines.append(
            f"{tests:,} of {len(others):,} test images {'is a copy' if tests == 1 else 'are copies'} of train images "
            f"({one} of {other}{', ...' if tests > 1 else ''}){otherwise}: the test metrics are too good; remove them"
        )
    if found.looked_at < found.files:
        lines.append(
            f"copies of train images among test images: {found.looked_at:,} of {found.files:,} files looked at, as "
            f"time ran out"
        )
    return lines


def _otherwise(train: ImageDataset, test: ImageDataset, pairs: Sequence[tuple[int, int]]) -> str:
    """Counts copies under another class."""
    labels, others = class_indices(train), class_indices(test)
    names, known = class_names(train), class_names(test)
    if labels is None or others is None:
        return ""
    different = 0
    for number, copy in pairs:
        here, there = others[number], labels[copy]
        same = known[here] == names[there] if known and names and here >= 0 and there >= 0 else here == there
        different += not same
    return f", {different:,} of them under another class" if different else ""
