"""What a failure of a run on Ray was, whether it is worth another try, and how it is told."""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayError

from ray_classy.errors import RayClassyError, RunError, WorkerDiedError
from ray_classy.ray_compat.settings import START_TIMEOUT
from ray_classy.ray_compat.train import is_process_failure, is_start_timeout
from ray_classy.trainer.run_folder import RunFolder

_MOST_IN_WAKE = 3


class Retries:
    """Decides whether a run is tried again after a failure, and logs it (see `ray_compat.train.failure_policy`).

    Ray only counts failures. A mistake in the user's code fails again however often it is tried, so the same failure in
    the same place ends the run; an actor of Ray Train's that died with its node is worth another try.

    Args:
        max_failures: how many failures of workers are allowed; -1 for any number.
        run: the run's folder, to whose log messages are written.
    """

    def __init__(self, max_failures: int, run: RunFolder) -> None:
        self._max_failures = max_failures
        self._run = run
        self._last: tuple[str, str] | None = None
        self._failures = self._in_wake = 0

    def decide(self, failure: Any, retries: bool) -> bool:
        """Returns whether to try again; called by Ray after each failure.

        Args:
            failure: a `TrainingFailedError` of Ray's.
            retries: whether Ray would try again.
        """
        if getattr(failure, "worker_failures", None):
            self._failures += 1
            self._in_wake = 0
        elif not retries:
            retries = self._helper_died(failure)
        error = cause(failure)
        place, before = _place(failure), self._last
        self._last = (place, _brief(error)) if place else None
        if retries and self._last is not None and self._last == before:
            self._run.tell(f"the same failed again {place}: giving up")
            return False
        if retries:
            self._run.tell(f"{_brief(error)}: resuming from the last checkpoint")
        return retries

    def _helper_died(self, failure: Any) -> bool:
        """Whether an actor of Ray Train's beside the workers died, as when a node runs out of memory, within the limit.

        It counts as a failure of workers, or as part of the one before it.
        """
        if not isinstance(getattr(failure, "controller_failure", None), RayError):
            return False
        self._in_wake += 1
        if not self._failures or self._in_wake > _MOST_IN_WAKE:
            self._failures += 1
        return self._max_failures == -1 or self._failures <= self._max_failures


def cause(error: Any) -> Exception:
    """The failure that came first, as the error that a training in this process would have raised.

    Args:
        error: a `TrainingFailedError` of Ray's.
    """
    of_controller = getattr(error, "controller_failure", None)
    if isinstance(of_controller, RayClassyError):
        return of_controller
    if is_start_timeout(of_controller):
        return RunError(f"the workers did not start in time ({START_TIMEOUT})")
    first = _first(error)
    if first is None:
        return RunError(f"Ray Train failed: {_death(of_controller or error)}")
    rank, failure = first
    if isinstance(failure, RayClassyError | FloatingPointError):
        return failure
    if is_process_failure(failure) and not hasattr(failure, "where_in_run"):
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


def _is_consequence(error: BaseException) -> bool:
    """Whether a rank failed only because another one was gone."""
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "gloo", "nccl"))
