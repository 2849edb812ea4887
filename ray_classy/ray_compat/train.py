"""Ray Train: the trainer's controller, and the fields of Ray's config classes."""

from __future__ import annotations

import copy
import inspect
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ray_classy.ray_compat import find, log_missing
from ray_classy.ray_compat.controller import controller_class, run_controller, shards_from_here

if TYPE_CHECKING:
    from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

_SCALING = "ray.train.v2._internal.execution.scaling_policy"
_FAILURES = "ray.train.v2._internal.execution.failure_handling"
_SECONDS_BETWEEN_QUESTIONS = 0.2
"""How long a run without workers waits before it asks again how many to start; Ray itself does not wait."""


class StartDecider(Protocol):
    """Decides how many workers run.

    Attributes:
        most: the largest number of workers, which an autoscaler is asked for.
    """

    most: int

    def without_workers(self) -> int | None:
        """Called again and again while none run; returns how many to start, or None to wait."""

    def with_workers(self, workers: int, group: str) -> int | None:
        """Called again and again while workers run; returns how many to run instead, or None.

        Args:
            workers: that run.
            group: the id of their placement group, in hexadecimal.
        """


def scaling_policy(scaling: ScalingConfig, decider: StartDecider, requests: bool = True) -> Any | None:
    """A scaling policy of Ray Train that asks `decider`; None on a Ray that has no such policies.

    Ray's public elastic `num_workers` counts what a cluster has, not what is free, and while others hold it starts
    groups that cannot come up, again and again. Serves "never waits without a message". Ray 2.57 to 2.60 have it.
    Without it Ray decides.

    Args:
        scaling: of the run.
        decider: is asked how many workers run.
        requests: whether to ask an autoscaler for the largest number of workers, through an actor of Ray's.
    """
    consequence = "Ray decides when workers start, and may wait for resources without a message"
    base = find(f"{_SCALING}:ScalingPolicy", consequence)
    noop = find(f"{_SCALING}:NoopDecision", consequence)
    resize = find(f"{_SCALING}:ResizeDecision", consequence)
    if base is None or noop is None or resize is None:
        return None
    each = resources_per_worker(scaling)

    class Policy(base):  # type: ignore[misc, valid-type]
        def _get_num_workers_for_resource_request(self) -> int:
            return decider.most

        def make_decision_for_non_running_worker_group(self) -> Any:
            self._request()
            workers = decider.without_workers()
            if workers is None:
                time.sleep(_SECONDS_BETWEEN_QUESTIONS)
            return self._decision(workers)

        def make_decision_for_running_worker_group(self, worker_group_state: Any, worker_group_status: Any) -> Any:
            self._request()
            group = worker_group_state.placement_group_handle.placement_group.id.hex()
            return self._decision(decider.with_workers(worker_group_state.num_workers, group))

        def after_controller_start(self, train_run_context: Any) -> None:
            if requests:
                super().after_controller_start(train_run_context)

        async def before_controller_shutdown(self) -> None:
            if requests:
                await super().before_controller_shutdown()

        def before_controller_abort(self) -> None:
            if requests:
                super().before_controller_abort()

        def _request(self) -> None:
            """Asks an autoscaler for the resources, from time to time."""
            request = getattr(self, "_maybe_send_resource_request", None)
            if requests and request is not None:
                request()

        @staticmethod
        def _decision(workers: int | None) -> Any:
            return noop() if workers is None else resize(num_workers=workers, resources_per_worker=each)

    return Policy(scaling)


def failure_policy(failures: FailureConfig, decide: Callable[[Any, bool], bool]) -> Any | None:
    """A failure policy of Ray Train that asks `decide`; None on a Ray that has no such policies.

    Ray's public `FailureConfig` only counts: it tries a mistake in the user's code again for ever, and gives up when an
    actor of its own dies with a node. Serves "never waits without a message": each retry is logged in the run's
    log. Ray 2.57 to 2.60 have it. Without it Ray decides.

    Args:
        failures: how many failures of each kind are allowed.
        decide: called with Ray's error and whether Ray would try again; returns whether to try again.
    """
    consequence = "Ray decides what is tried again, and does not write it to the run's log"
    base = find(f"{_FAILURES}:DefaultFailurePolicy", consequence)
    decisions = find(f"{_FAILURES}:FailureDecision", consequence)
    if base is None or decisions is None:
        return None

    class Policy(base):  # type: ignore[misc, valid-type]
        def make_decision(self, training_failed_error: Any) -> Any:
            retries = super().make_decision(training_failed_error) is decisions.RETRY
            return decisions.RETRY if decide(training_failed_error, retries) else decisions.RAISE

    return Policy(failures)


def trainer_class(
    policies: Mapping[str, Any], keeps_cleaner: bool, when_started: Callable[[], None] | None = None
) -> type[TorchTrainer]:
    """Ray's `TorchTrainer`, with its controller in this process, other policies, and without its cleaner.

    Serves four promises: "never waits without a message" through the policies; "starts quickly" through the controller;
    "frees what it held", since the cleaner, a detached actor, would stay for ever where no dashboard tells it that the
    controller ended; and "resumes exactly", since the first Ctrl-C asks the run for a checkpoint, where Ray aborts at
    once. Ray 2.57 to 2.60 have the methods. Without one, Ray's own controller, policies, cleaner or Ctrl-C apply.

    Args:
        policies: `scaling_policy` and `failure_policy`, in place of Ray's; those that are None stay Ray's.
        keeps_cleaner: whether the actor that frees the workers' resources when the controller dies is started, where
            the controller is an actor.
        when_started: called, in the main thread, when the controller has been started and Ray has installed its handler
            of Ctrl-C.
    """
    from ray.train.torch import TorchTrainer

    policies = {name: policy for name, policy in policies.items() if policy is not None}
    cleaner = _cleaner()
    if (policies or not keeps_cleaner) and not hasattr(TorchTrainer, "_initialize_and_run_controller"):
        log_missing("TorchTrainer._initialize_and_run_controller", "Ray's own policies and cleaner are used")
    if when_started is not None and not hasattr(TorchTrainer, "_register_sigint_handler"):
        log_missing("TorchTrainer._register_sigint_handler", "Ctrl-C ends a run at once, without a checkpoint")

    class Trainer(TorchTrainer):
        def _initialize_and_run_controller(self, **arguments: Any) -> Any:
            for name, policy in policies.items():
                if name in arguments:
                    arguments[name] = policy
                else:
                    log_missing(f"argument {name} of its controller", "Ray's own policy is used")
            here = controller_class()
            if cleaner is not None and (here is not None or not keeps_cleaner):
                arguments["callbacks"] = [one for one in arguments["callbacks"] if not isinstance(one, cleaner)]
            if here is None:
                return super()._initialize_and_run_controller(**arguments)
            arguments["callbacks"] = shards_from_here(arguments["callbacks"], self.datasets)
            in_main_thread = threading.current_thread() is threading.main_thread()
            return run_controller(here, arguments, when_started if in_main_thread else None)

        def _register_sigint_handler(self, controller: Any) -> None:
            super()._register_sigint_handler(controller)
            if when_started is not None:
                when_started()

    return Trainer


def _cleaner() -> Any | None:
    return find(
        "ray.train.v2._internal.callbacks.placement_group_callback:PlacementGroupCleanerCallback",
        "nothing of Ray's is left out of a run's start",
    )


def preemption_is_near() -> bool:
    """Whether Ray has announced to this worker that a node of its group will be reclaimed.

    Ray's public `get_preemption_info` waits for all ranks in every call, which a training step must not do. Serves
    "resumes exactly", at the step and not at the last checkpoint. Ray 2.57 to 2.60 have it, 2.57 under
    another name. Without it the run resumes from its last checkpoint.
    """
    context = find(
        "ray.train.v2._internal.execution.context:get_train_context",
        "no checkpoint is written before a node is reclaimed",
    )
    if context is None:
        return False
    notice: Any = getattr(context(), "preemption_context", None)
    if hasattr(notice, "preemption_info"):
        return notice.preemption_info is not None
    if hasattr(notice, "get"):  # Ray 2.57
        return notice.get() is not None
    log_missing("preemption_context.preemption_info", "no checkpoint is written before a node is reclaimed")
    return False


def checkpoint_in_run(name: str) -> Checkpoint | None:
    """A checkpoint in the folder of the current run, as Ray names that folder; None on a Ray that does not say it.

    Ray accepts a checkpoint that is already in its place only under its own spelling of the path. `get_storage` is a
    developer's interface. Ray 2.57 to 2.60 have it. Without it Ray's callbacks see reports without checkpoints; the
    run's own files are not affected.
    """
    import ray.train

    context = ray.train.get_context()
    if not hasattr(context, "get_storage"):
        log_missing("TrainContext.get_storage", "Ray's callbacks see reports without checkpoints")
        return None
    storage = context.get_storage()
    return ray.train.Checkpoint(f"{storage.experiment_fs_path}/{name}", storage.storage_filesystem)


def is_start_timeout(error: object) -> bool:
    """Whether the workers of a group did not start in time. (Ray 2.57 to 2.60; else Ray's own message is shown.)"""
    kind = find("ray.train.v2._internal.exceptions:WorkerGroupStartupTimeoutError", "Ray's own message is shown")
    return kind is not None and isinstance(error, kind)


def is_process_failure(error: object) -> bool:
    """Whether an error is Ray's, for a worker process that died or does not answer, and not the user's code's.

    Public are the errors of Ray Core. Those of Ray Train, for a worker that does not answer, are private. Serves "says
    what failed". Ray 2.57 to 2.60 have them. Without them such a failure is reported with Ray's own text.
    """
    from ray.exceptions import RayError

    trains = find("ray.train.v2._internal.exceptions:RayTrainError", "a dead worker is reported in Ray's own words")
    return isinstance(error, RayError if trains is None else RayError | trains)


def resources_per_worker(scaling: ScalingConfig) -> dict[str, float]:
    """What each worker gets, with Ray's defaults; resources of which it gets none are left out.

    Read from the public `total_resources` of one worker.
    """
    one = copy.copy(scaling)
    one.num_workers = 1
    return {name: float(amount) for name, amount in one.total_resources.items() if amount}


def config_fields(cls: type) -> dict[str, inspect.Parameter]:
    """The fields of one of Ray's config classes that Ray still accepts, by name.

    Ray keeps fields that it refuses, with a text for a default that says so. On a Ray that marks them differently they
    are offered, and Ray refuses them itself.
    """
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default != "DEPRECATED" and name != "trainer_resources"  # which Ray refuses without such a text
    }


def given_name(config: RunConfig) -> str | None:
    """The name of a run, if the user gave it; None if Ray made it from the time.

    Ray's names are recognized by comparison with a new one: two runs that start in the same second would share it.
    """
    from ray.train import RunConfig

    made = RunConfig().name
    return None if made is not None and _shape(str(config.name)) == _shape(made) else config.name


def _shape(name: str) -> str:
    return re.sub(r"\d", "0", name)


SNAPSHOT_FILE = "checkpoint_manager_snapshot.json"
"""Ray Train's own list of a run's checkpoints, in the run's folder. (Ray 2.57 to 2.60.)"""
FILES_IN_RUNS = (SNAPSHOT_FILE, ".validate_storage_marker")
"""What Ray Train writes to a run's folder before anything is trained. (Ray 2.57 to 2.60.)"""
