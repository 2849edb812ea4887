"""What a failure of a run on Ray was, whether it is worth another try, and how it is told."""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayError
from ray.train import FailureConfig
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

from ray_classy.errors import RayClassyError, RunError, WorkerDiedError
from ray_classy.trainer.run_folder import RunFolder

_MOST_IN_WAKE = 3


class ToldFailurePolicy(DefaultFailurePolicy):
    """Ray's policy, which says in the run's log what failed, and gives up when the same fails again in the same place.

    A mistake in the user's code fails again however often it is tried; without a limit on failures, for ever.

    Args:
        failure_config: how many failures of each kind are allowed.
        run: the run's folder.
    """

    def __init__(self, failure_config: FailureConfig, run: RunFolder) -> None:
        super().__init__(failure_config)
        self._run = run
        self._last: tuple[str, str] | None = None
        self._in_wake = 0

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        """Called after each failure."""
        decision = super().make_decision(training_failed_error)
        if decision is FailureDecision.RAISE and self._may_try_again(training_failed_error):
            decision = FailureDecision.RETRY
        elif getattr(training_failed_error, "worker_failures", None):
            self._in_wake = 0
        error = cause(training_failed_error)
        place, before = _place(training_failed_error), self._last
        self._last = (place, _brief(error)) if place else None
        if decision is FailureDecision.RETRY and self._last is not None and self._last == before:
            self._run.tell(f"the same failed again {place}: giving up")
            return FailureDecision.RAISE
        if decision is FailureDecision.RETRY:
            self._run.tell(f"{_brief(error)}: going on from the last checkpoint")
        return decision

    def _may_try_again(self, error: Any) -> bool:
        """Whether an actor that Ray Train keeps beside the workers died, as when a node ran out of memory.

        Ray gives up for that. Here it counts as a failure of workers, or as part of one in whose wake it comes.
        """
        if not isinstance(getattr(error, "controller_failure", None), RayError):
            return False
        self._in_wake += 1
        if not self._worker_group_failures or self._in_wake > _MOST_IN_WAKE:
            self._worker_group_failures += 1
        allowed = self.failure_config.max_failures
        return allowed == -1 or self._worker_group_failures <= allowed


def cause(error: Any) -> Exception:
    """The failure that came first, as the error that a training in this process would have raised.

    Args:
        error: a `TrainingFailedError` of Ray's.
    """
    of_controller = getattr(error, "controller_failure", None)
    if isinstance(of_controller, RayClassyError):
        return of_controller
    if isinstance(of_controller, WorkerGroupStartupTimeoutError):
        return RunError("the workers did not come up in time (RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S)")
    first = _first(error)
    if first is None:
        return RunError(f"Ray Train failed: {_death(of_controller or error)}")
    rank, failure = first
    if isinstance(failure, RayClassyError | FloatingPointError):
        return failure
    if _is_death(failure):
        return WorkerDiedError(f"the process of rank {rank} died: {_death(failure)}")
    stuck = _stuck(error.worker_failures)
    if stuck:
        return RunError(
            f"{stuck} did not come to where the other ranks waited for it, within the time-out (ray.timeout_s): a step "
            f"that never ends, or ranks that do not do the same. Another one said: {_last_line(failure)}"
        )
    if _is_consequence(failure):
        return WorkerDiedError(f"rank {rank} lost the connection to another one: {_last_line(failure)[:160]}")
    trace = "\n".join(getattr(failure, "__notes__", [])) or f"{type(failure).__name__}: {failure}"
    return RunError(f"training failed {_place(error) or f'on rank {rank}'}:\n{trace.rstrip()}")


def mark(error: Exception, rank: int, ranks: int, step: int) -> None:
    """Notes on an exception where in the run it was raised; it stays there on the way to the driver.

    Args:
        error: as it left the user's code.
        rank: of the process.
        ranks: that there are.
        step: train steps of the run that were over.
    """
    error.where_in_run = (rank, ranks, step)  # type: ignore[attr-defined]


def _first(error: Any) -> tuple[int, Exception] | None:
    """Rank and exception of what the others followed from, as far as that can be told."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", None) or {}
    return min(failures.items(), key=lambda item: (_is_consequence(item[1]), item[0]), default=None)


def _place(error: Any) -> str:
    """Where the first failure was, if that was an exception in a worker; empty if it was something else."""
    first = _first(error)
    where = getattr(first[1], "where_in_run", None) if first is not None else None
    if where is None or first is None or _is_consequence(first[1]):
        return ""
    return f"on rank {where[0]} of {where[1]}, after {where[2]} train steps"


def _stuck(failures: dict[int, Exception]) -> str:
    """The ranks that all that failed have waited for in vain; empty if it was not so."""
    if not all("timed out" in str(one).lower() or "timeout" in str(one).lower() for one in failures.values()):
        return ""
    ranks = max((getattr(one, "where_in_run", (0, 0, 0))[1] for one in failures.values()), default=0)
    missing = [str(rank) for rank in range(ranks) if rank not in failures]
    return f"rank{'s' if len(missing) > 1 else ''} {', '.join(missing)}" if missing else ""


def _brief(error: Exception) -> str:
    """An error in one line: without the traceback of a worker."""
    lines = str(error).splitlines() or [type(error).__name__]
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]


def _death(failure: Exception) -> str:
    """What Ray says of a process that died; of one that was killed for memory, that."""
    lines = str(failure).splitlines()
    return next((line for line in lines if "running low on memory" in line), str(failure))


def _last_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[-1]


def _is_death(failure: Exception) -> bool:
    return type(failure).__module__.startswith("ray.") and type(failure).__name__ != "UserExceptionWithTraceback"


def _is_consequence(error: BaseException) -> bool:
    """Whether a rank failed only because another one was gone."""
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "gloo", "nccl"))
