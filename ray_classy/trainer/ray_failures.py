"""What a failure of a run on Ray was, whether it is worth another try, and how it is reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ray.exceptions import RayError

from ray_classy.distributed import exchange_failed
from ray_classy.errors import RayClassyError, RunError, WorkerDiedError
from ray_classy.ray_compat.settings import START_TIMEOUT
from ray_classy.ray_compat.train import is_process_failure, is_start_timeout
from ray_classy.trainer.run_folder import RunFolder

_MOST_IN_WAKE = 3
_MOST_OF_IT = 0.95  # of a time-out, which an exchange that reached it has taken
TIMEOUT_S = 1800.0
"""Ray's default of `TorchConfig.timeout_s`."""


@dataclass(frozen=True)
class Place:
    """Where in a run an exception was raised.

    Attributes:
        rank: of the process.
        ranks: number of processes.
        step: train steps of the run that were complete.
        exchange: whether it was raised by an exchange between the ranks (see `distributed.exchange_failed`).
        seconds: how long that exchange had taken; 0 if it is not known.
    """

    rank: int
    ranks: int
    step: int
    exchange: Literal["yes", "maybe", "no"]
    seconds: float

    def __str__(self) -> str:
        return f"on rank {self.rank} of {self.ranks}, after {self.step} train steps"


def mark(error: Exception, rank: int, ranks: int, step: int) -> None:
    """Notes on an exception where in the run it was raised; the note travels to the driver with it.

    Args:
        error: as it left the user's code, with its traceback.
        rank: of the process.
        ranks: number of processes.
        step: train steps of the run that were complete.
    """
    seconds = getattr(error, "seconds_in_exchange", 0.0)
    error.place_in_run = Place(rank, ranks, step, exchange_failed(error), seconds)  # type: ignore[attr-defined]


class Retries:
    """Decides whether a run is tried again after a failure, and logs it (see `ray_compat.train.failure_policy`).

    Ray only counts failures. A mistake in the user's code fails again however often it is tried, so the same failure in
    the same place ends the run; an actor of Ray Train's that died with its node is worth another try.

    Args:
        max_failures: how many failures of workers are allowed; -1 for any number.
        run: the run's folder, to whose log messages are written.
        timeout_s: how long the process group waits for a rank, in seconds.
    """

    def __init__(self, max_failures: int, run: RunFolder, timeout_s: float = TIMEOUT_S) -> None:
        self._max_failures = max_failures
        self._timeout_s = timeout_s
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
            # Ray has a limit of its own for preemptions, and does not count them here either.
            self._failures += not any(getattr(error, "preempted", False) for error in failure.worker_failures.values())
            self._in_wake = 0
        elif not retries:
            retries = self._helper_died(failure)
        error = cause(failure, self._timeout_s)
        first, before = _first(failure), self._last
        place = None if first is None else _place(first[1])
        self._last = None if place is None else (str(place), _brief(error))
        if retries and self._last is not None and self._last == before:
            self._run.log_now(f"the same failed again {place}: giving up")
            return False
        if retries:
            self._run.log_now(f"{_brief(error)}: resuming from the last checkpoint")
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


def cause(error: Any, timeout_s: float = TIMEOUT_S) -> Exception:
    """The failure that the others followed from, as the error that a training in this process would have raised.

    Args:
        error: a `TrainingFailedError` of Ray's.
        timeout_s: how long the process group waits for a rank, in seconds.
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
    place = _place(failure)
    if isinstance(failure, RayClassyError | FloatingPointError):
        return failure
    if place is None and is_process_failure(failure):
        return WorkerDiedError(f"the process of rank {rank} died: {_death(failure)}")
    trace = ("\n".join(getattr(failure, "__notes__", [])) or f"{type(failure).__name__}: {failure}").rstrip()
    stuck = _stuck(error.worker_failures, timeout_s)
    if stuck:
        return RunError(
            f"{stuck} did not come to an exchange within the time-out (ray.timeout_s), while the other ranks waited: a "
            f"step that does not end, or ranks that do different things. Another rank said:\n{trace}"
        )
    if place is not None and place.exchange == "yes":
        return WorkerDiedError(
            f"an exchange between the ranks failed {place}; another rank may have died, or the network failed:\n{trace}"
        )
    return RunError(f"training failed {place or f'on rank {rank}'}:\n{trace}")


def _place(failure: Exception) -> Place | None:
    """Where in the run an exception was raised; None for the death of a process."""
    return getattr(failure, "place_in_run", None)


def _exchange(failure: Exception) -> Literal["yes", "maybe", "no"]:
    place = _place(failure)
    return "no" if place is None else place.exchange


def _first(error: Any) -> tuple[int, Exception] | None:
    """Rank and exception of the failure that the others followed from: an exchange fails because another rank did."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", None) or {}
    order = ("no", "maybe", "yes")
    return min(failures.items(), key=lambda item: (order.index(_exchange(item[1])), item[0]), default=None)


def _stuck(failures: dict[int, Exception], timeout_s: float) -> str:
    """The ranks for which all that failed waited until the time-out; empty if it was not so."""
    places = [_place(failure) for failure in failures.values()]
    waited = [place for place in places if place is not None and place.exchange != "no"]
    if len(waited) < len(failures) or max(place.seconds for place in waited) < _MOST_OF_IT * timeout_s:
        return ""
    missing = [str(rank) for rank in range(waited[0].ranks) if rank not in failures]
    return f"rank{'s' if len(missing) > 1 else ''} {', '.join(missing)}" if missing else ""


def _brief(error: Exception) -> str:
    """An error in one line: without the traceback of a worker."""
    lines = str(error).splitlines() or [type(error).__name__]
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]


def _death(failure: Exception) -> str:
    """Ray's text on a process that died; only the line on memory, if it was killed for that."""
    lines = str(failure).splitlines()
    return next((line for line in lines if "running low on memory" in line), str(failure))
