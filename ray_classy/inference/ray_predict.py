"""Predicts images on Ray: CPUs of the cluster decode them, and workers that hold the model predict them.

    parts (numbers of images)
        │  tasks: read, decode, transform on the host     Ray Data, one CPU each
        ▼
    batches, as one process would make them
        │  actors: transform on the device, predict       Ray Data, one model each
        ▼
    predictions → rows of a part, as soon as all of its batches are there

Each batch has the rows that it has in one process, so the predictions are the same.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data

from ray_classy.dataset.device_batches import batches_on_device
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.dataset.seeded_rows import Batch, SeededRows
from ray_classy.errors import ComponentError, RayClassyError, RunError, WorkerDiedError
from ray_classy.generic.util import map_tensors
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.image_rows import ImageRows
from ray_classy.inference.load_model import load_model
from ray_classy.inference.pace import Pace
from ray_classy.inference.prediction_rows import Asked, Columns, predictions_of, rows_of_images
from ray_classy.inference.preprocessing import Preprocessing
from ray_classy.inference.ray_workers import Workers, workers_on
from ray_classy.ingest.ray_feed_task import Shipped
from ray_classy.printable import printable
from ray_classy.ray_compat.data import map_batches
from ray_classy.trainer.ray_cluster import check_visible
from ray_classy.urls import is_url

_RESTARTS = 3
"""How often an actor, and a task, is started again after its process or node was lost."""
_BLOCK_BYTES = 8 << 20
"""Batches are handed on in blocks of about this size, so that all workers have some."""

Rows = Iterator[tuple[int, list[dict[str, Any]]]]


@dataclass(frozen=True)
class _Work:
    """What each process of the cluster needs to know.

    Attributes:
        images: all images.
        how: how they are read.
        path: of the checkpoint.
        asked: what is asked of the model.
        cwd: the driver's working directory, at which relative paths start.
    """

    images: ImageRows
    how: Preprocessing
    path: str
    asked: Asked
    cwd: str

    def rows(self, numbers: range, errors: dict[int, str]) -> SeededRows:
        """Returns the rows of a part, read in this thread alone."""
        dataset = self.images.dataset(self.how.transform, errors)
        base = row_dataset_of(dataset)
        assert base is not None
        base.threads = 0
        return SeededRows(dataset, self.how.plan(numbers, self.asked.batch_size))


@contextmanager
def predicted_on_ray(
    model: Classifier,
    images: ImageRows,
    parts: Mapping[int, range],
    asked: Asked,
    num_workers: int,
    section: Mapping[str, Any],
    pace: Pace,
) -> Iterator[Rows]:
    """Gives the block the rows of parts, in the order in which they are complete.

    Args:
        model: a model that was loaded from a checkpoint, which the workers read themselves.
        images: the images.
        parts: the images of each part.
        asked: what is asked of the model.
        num_workers: workers that hold the model.
        section: the section `ray` of a config.
        pace: gets the number of images of each part that are done, until all of its images are.

    Raises:
        ComponentError: the model was not loaded from a checkpoint.
        ResourceError: the cluster has no room for the workers, or a node does not see the files.
        RunError: the workers failed; the message says why.
    """
    if model.path is None:
        raise ComponentError("num_workers: Ray workers load the model from its checkpoint, and this one has no path")
    path = model.path if is_url(model.path) else os.path.abspath(model.path)
    batches = sum(-(-len(numbers) // asked.batch_size) for numbers in parts.values())
    with workers_on(section, min(num_workers, batches)) as workers:
        check_visible(path, [os.path.abspath(file) for file in images.files() if not is_url(file)])
        work = _Work(images, model.preprocessing, path, asked, os.getcwd())
        made = _execute(ray.put(work), parts, workers)
        try:
            yield _collected(made, images, parts, asked, Columns.of(model, images), pace)
        finally:
            made.close()


def _execute(work: ray.ObjectRef, parts: Mapping[int, range], workers: Workers) -> Any:
    """Yields tables of what the workers give."""
    items = [{"part": number, "start": one.start, "stop": one.stop} for number, one in parts.items()]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    dataset.context.enable_progress_bars = False
    dataset.context.target_max_block_size = _BLOCK_BYTES
    decoded = map_batches(
        dataset,
        _decoded,
        {"max_retries": _RESTARTS},
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"work": [work]},
        num_cpus=workers.decoder,
    )
    predicted = map_batches(
        decoded,
        _Predictor,
        {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS},
        batch_size=1,  # a row holds a batch of images; with GPUs, Ray asks for a number
        batch_format="pyarrow",
        fn_constructor_kwargs={"work": [work]},
        compute=ray.data.ActorPoolStrategy(size=workers.number),
        **workers.remote_args(),
    )
    yield from predicted.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _collected(
    made: Iterator[pa.Table], images: ImageRows, parts: Mapping[int, range], asked: Asked, columns: Columns, pace: Pace
) -> Rows:
    """Yields the rows of each part that is complete."""
    found: dict[int, dict[int, Any]] = {number: {} for number in parts}
    for table in _without_rays_errors(made):
        for part, batch, content in zip(*(table.column(name).to_pylist() for name in _NAMES), strict=True):
            answer = pickle.loads(content)
            if isinstance(answer, RayClassyError):
                raise answer
            found[part][batch] = answer
            if len(found[part]) < -(-len(parts[part]) // asked.batch_size):
                pace.reach(len(found[part]) * asked.batch_size, parts[part].start)
            else:
                predictions: dict[int, Any] = {}
                errors: dict[int, str] = {}
                for some, wrong in found.pop(part).values():
                    predictions.update(some)
                    errors.update(wrong)
                yield part, rows_of_images(images, parts[part], columns, predictions, errors)
    if found:
        raise RunError(f"the workers have given no predictions of {len(found)} parts")


def _without_rays_errors(made: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Passes on what the workers give; raises our errors in place of Ray's."""
    try:
        yield from made
    except RayClassyError:
        raise
    except (ray.exceptions.ActorDiedError, ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise WorkerDiedError(
            f"a process that predicts images has died {_RESTARTS + 1} times, for example for want of memory: lower "
            f"--num-workers or --batch-size; the same command continues. {_first_line(error)}"
        ) from error
    except Exception as error:
        raise RunError(f"predictions on Ray have failed: {_first_line(error)}; the same command continues") from error


def _first_line(error: Exception) -> str:
    """Returns what an error of Ray's is about: of an exception in a worker its last line, which names it."""
    lines = [line.strip() for line in printable(str(error)).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0]


_NAMES = ("part", "batch", "content")


def _table(part: int, batch: int, content: Any) -> pa.Table:
    values = [pa.array([part]), pa.array([batch]), pa.array([pickle.dumps(content, protocol=5)], pa.large_binary())]
    return pa.table(dict(zip(_NAMES, values, strict=True)))


_received: dict[ray.ObjectRef, _Work] = {}


def _of(work: list[ray.ObjectRef]) -> _Work:
    """Returns the work of this process, which it receives once."""
    if work[0] not in _received:
        logging.getLogger("ray_classy.dataset.loader").setLevel(logging.ERROR)
        received = ray.get(work[0])
        if os.path.isdir(received.cwd):
            os.chdir(received.cwd)
        _received.clear()
        _received[work[0]] = received
    return _received[work[0]]


def _decoded(parts: pa.Table, work: list[ray.ObjectRef]) -> Iterator[pa.Table]:
    """Yields the batches of parts; or an error, for the driver to raise."""
    for one in parts.to_pylist():
        number = -1
        errors: dict[int, str] = {}
        try:
            rows = _of(work).rows(range(one["start"], one["stop"]), errors)
            for number, indices in enumerate(rows.plan.batches()):
                batch = rows.collate(rows.__getitems__(indices.tolist()))
                shipped = batch._replace(sample=map_tensors(batch.sample, Shipped), bad=[])
                yield _table(one["part"], number, (shipped, dict(errors)))
                errors.clear()
        except RayClassyError as error:
            yield _table(one["part"], number, error)


class _Predictor:
    """Holds the model, and predicts batches.

    Args:
        work: a reference to the work.
    """

    def __init__(self, work: list[ray.ObjectRef]) -> None:
        self._work = _of(work)
        self._model: Classifier | RayClassyError
        try:
            self._model = load_model(self._work.path)
        except RayClassyError as error:
            self._model = error

    def __call__(self, batches: pa.Table) -> Iterator[pa.Table]:
        for part, number, content in zip(*(batches.column(name).to_pylist() for name in _NAMES), strict=True):
            try:
                yield _table(part, number, self._answer(pickle.loads(content)))
            except RayClassyError as error:
                yield _table(part, number, error)

    def _answer(self, content: Any) -> Any:
        """Returns predictions and errors of a batch, by the numbers of the images."""
        for error in (content, self._model):
            if isinstance(error, RayClassyError):
                return error
        batch, errors = content
        if batch.sample is None:
            return {}, errors
        rows = self._work.rows(range(0), {})
        assert isinstance(self._model, Classifier) and isinstance(batch, Batch)
        (ready,) = batches_on_device([batch], rows.placement, rows.plan, self._model.device)
        return predictions_of(self._model, ready.sample, self._work.asked), errors
