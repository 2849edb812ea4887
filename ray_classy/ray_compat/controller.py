"""Ray Train's controller in a thread of this process.

By itself Ray runs its controller in an actor, which imports torch before it starts the first worker, and has another
actor hand out the shards of the datasets: two processes for every run. Serves start-up time, and "frees what it held":
the workers' placement group ends with this process, however that ends. Ray 2.57 to 2.60 have the names. Without one,
for a Ray client, and where Ray tracks the state of its runs by their actor, Ray starts the actors.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray_classy.deferred_compiler import defer_compiler
from ray_classy.ray_compat import find, log_missing

if TYPE_CHECKING:
    from ray.runtime_context import RuntimeContext

_CONTROLLER = "ray.train.v2._internal.execution.controller:TrainController"
_CONSEQUENCE = "Ray starts a process for its controller"
_DATASETS = "ray.train.v2._internal.callbacks.datasets:DatasetsCallback"
_PREEMPTION = "ray.train.v2._internal.callbacks.preemption_callback"
_STATE_TRACKING = "RAY_TRAIN_ENABLE_STATE_TRACKING"
_LEAVE_SECONDS = 5.0
"""How long an interrupted controller may take to see that it is to leave, before its workers are taken from it."""
_thread = threading.local()


def controller_class() -> Any | None:
    """Ray Train's controller, if it can run in this process; else None."""
    from ray.runtime_context import RuntimeContext
    from ray.util.client import ray as client

    if client.is_connected() or os.environ.get(_STATE_TRACKING, "0") not in ("0", ""):
        return None
    controller = find(_CONTROLLER, _CONSEQUENCE)
    for name in ("_step", "run", "get_result", "worker_group_cls"):
        if controller is not None and not hasattr(controller, name):
            log_missing(f"TrainController.{name}", _CONSEQUENCE)
            return None
    if not isinstance(getattr(RuntimeContext, "current_actor", None), property):
        log_missing("RuntimeContext.current_actor", _CONSEQUENCE)
        return None
    return controller


def run_controller(
    controller_class: Any, arguments: Mapping[str, Any], when_started: Callable[[], None] | None = None
) -> Any:
    """Runs a controller in a thread, and waits for its end.

    Args:
        controller_class: from the function of that name.
        arguments: for its constructor.
        when_started: called once the thread has been started.

    Returns:
        Ray's `Result`, which holds the error with which the run ended, if it did.

    Raises:
        BaseException: what a signal handler raises meanwhile; the workers are ended.
    """
    leaves = threading.Event()
    groups: list[Any] = []

    class Group(controller_class.worker_group_cls):
        _worker_cls = _worker_class(controller_class.worker_group_cls)

        def _create_placement_group(self, *args: Any, **options: Any) -> Any:
            groups[:] = [super()._create_placement_group(*args, **options)]
            return groups[0]

    class Controller(controller_class):
        worker_group_cls = Group

        async def _step(self) -> Any:
            if leaves.is_set():
                raise _Left
            return await super()._step()

    async def control() -> Any:
        controller = Controller(**arguments)
        await controller.run()
        return controller.get_result()

    result: Future[Any] = Future()
    thread = threading.Thread(target=_work, args=(control, result), name="ray_train_controller", daemon=True)
    thread.start()
    try:
        if when_started is not None:
            when_started()
        return result.result()
    except BaseException:
        try:
            leaves.set()
            wait([result], timeout=_LEAVE_SECONDS)
        finally:
            for group in groups:
                group.shutdown()
        raise


def _worker_class(group: Any) -> Any:
    """The class of a group's workers, which do not collect garbage before `train_on_worker` lets them, and import
    torch's compiler when it is needed.

    Ray 2.57 to 2.60 have it. Without it they do.
    """
    base = getattr(group, "_worker_cls", None)
    if base is None:
        log_missing("WorkerGroup._worker_cls", "workers take longer to import what they need")
        return None

    class RayTrainWorker(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            gc.disable()
            defer_compiler()
            super().__init__()

    return RayTrainWorker


def shards_from_here(callbacks: Sequence[Any], datasets: Mapping[str, Any]) -> list[Any]:
    """The callbacks, of which the one for datasets gives the workers their shards itself.

    Ray 2.57 to 2.60 have it. Without it Ray starts a process that the workers ask for their shards.

    Args:
        callbacks: Ray's, for a run.
        datasets: of the run, as the trainer was given them.
    """
    base = find(_DATASETS, "Ray starts a process that hands out the shards of datasets")
    if base is None:
        return list(callbacks)

    class Shards(base):  # type: ignore[misc, valid-type]
        sources: Mapping[str, Any] = {}  # an attribute: what a class's functions enclose lives as long as the class

        def before_init_train_context(self, workers: Sequence[Any]) -> dict[str, list[Any]]:
            nodes = [worker.metadata.node_id for worker in workers]
            shards = self._data_config.configure(
                dict(self.sources), world_size=len(workers), worker_handles=None, worker_node_ids=nodes
            )
            return {"dataset_shard_provider": [_RankShards(one) for one in shards]}

    found = []
    for callback in callbacks:
        if type(callback) is base:
            made = Shards.__new__(Shards)
            made.__dict__.update(vars(callback), sources=datasets)
            callback = made
        found.append(callback)
    return found


class _RankShards:
    """What a worker asks for its shards, in place of Ray's process.

    Args:
        shards: of the worker's rank, by the name of the dataset.
    """

    def __init__(self, shards: Mapping[str, Any]) -> None:
        self._shards = shards

    def get_dataset_shard(self, info: Any) -> Any:
        return self._shards[info.dataset_name]


class _Left(BaseException):
    """Ends a controller whose run was interrupted: Ray takes an `Exception` for a failure that may be tried again."""


def _work(control: Callable[[], Any], result: Future[Any]) -> None:
    """What the thread does."""
    try:
        _thread.controls = True
        _prepare_runtime_context()
        _start_watchers_once()
        for handler in (*logging.getLogger("ray").handlers, *logging.getLogger("ray.train").handlers):
            handler.addFilter(_drop_controllers_lines)
        result.set_result(asyncio.run(control()))
    except BaseException as error:
        result.set_exception(error)


def _drop_controllers_lines(record: logging.LogRecord) -> bool:
    """Drops also the errors of a controller, which the run reports, where no more than errors of Ray are printed."""
    return not getattr(_thread, "controls", False) or logging.getLogger("ray").isEnabledFor(logging.INFO)


@functools.cache
def _prepare_runtime_context() -> None:
    """Lets a controller that is not an actor ask for its actor, as Ray's does to give it to the workers."""
    from ray.runtime_context import RuntimeContext

    before = RuntimeContext.current_actor

    def current_actor(context: RuntimeContext) -> Any:
        return _NoActor() if getattr(_thread, "controls", False) else before.fget(context)

    RuntimeContext.current_actor = property(current_actor, doc=before.__doc__)


@functools.cache
def _start_watchers_once() -> None:
    """Lets Ray's actor that watches for preemption of nodes not be started again when it dies.

    For one that may be, Ray's core prints a line about its arguments into the terminal of each run. Ray 2.57 to 2.60
    have it. Without it the line is printed. Workers that are started again get another one.
    """
    import ray

    path = f"{_PREEMPTION}:ray"
    if find(path, "Ray prints a line about the actor that watches for preemption") is not None:

        def remote(**options: Any) -> Any:
            return ray.remote(**{**options, "max_restarts": 0})

        importlib.import_module(_PREEMPTION).ray = SimpleNamespace(remote=remote, kill=ray.kill)  # type: ignore[attr-defined]


class _NoActor:
    """What workers get in place of the controller's actor."""

    @property
    def get_all_reported_checkpoints(self) -> Any:
        raise RuntimeError(
            f"ray.train.get_all_reported_checkpoints needs Ray's own controller: set {_STATE_TRACKING}=1 in the "
            f"environment of the driver"
        )
