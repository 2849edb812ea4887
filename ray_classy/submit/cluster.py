"""Requests to the job server of a Ray cluster, each of which ends in time, by an answer or by one error."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ray_classy.display import duration, print_line
from ray_classy.errors import ResourceError, UnavailableError
from ray_classy.job_driver import ADDRESS_VARIABLE, CONFIG_VARIABLE, JOB_VARIABLE
from ray_classy.ray_compat import settings
from ray_classy.ray_compat.authentication import HOW_TO_GET_IT, own_token
from ray_classy.submit.job import Job, safe_name

T = TypeVar("T")

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ACTIVE = ("PENDING", "RUNNING")

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
_UPLOAD_SECONDS = 300.0
_AGENT_SECONDS = 60.0
_WITHDRAW_SECONDS = 30.0
_NO_AGENT = "No available agent"


class LostConnection(ResourceError):
    """The job server does not answer any more."""


class Cluster:
    """The job server of a cluster.

    Args:
        address: of the cluster's dashboard, `http://HOST:8265`; None takes it from the environment, or the dashboard of
            a cluster on this machine.

    Attributes:
        address: the URL.

    Raises:
        UnavailableError: Ray's client of the job server is not installed.
        ResourceError: no dashboard answers at the address, or it refuses the token.
    """

    def __init__(self, address: str | None = None) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "requests")):
            raise UnavailableError("jobs need Ray's client of the job server: pip install 'ray_classy[cluster]'")
        given = (value for name in settings.JOB_ADDRESSES if "://" in (value := os.environ.get(name, "")))
        self.address = _url(address or next(given, DEFAULT_ADDRESS))
        _check_listening(self.address)
        self._client = self._connected()

    def _connected(self) -> Any:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in ("ray", *(kind.__module__ for kind in JobSubmissionClient.__mro__[:-1])):
            logging.getLogger(name).setLevel(logging.ERROR)  # importing them has set it

        def connect(**options: Any) -> Any:
            with _unset(settings.JOB_ADDRESSES):  # the client prefers them to the address that it is given
                return self._answer(JobSubmissionClient, self.address, **options)

        try:
            return connect()
        except AuthenticationError:
            token, source = own_token()
        if token is None:
            raise ResourceError(
                f"the Ray cluster at {self.address} asks for a token, and there is none in {source}: {HOW_TO_GET_IT}"
            )
        try:
            return connect(headers={"Authorization": f"Bearer {token}"})
        except AuthenticationError:
            raise ResourceError(
                f"the Ray cluster at {self.address} refuses the token in {source}: {HOW_TO_GET_IT}"
            ) from None

    def submit(self, job: Job, runtime_env: Mapping[str, Any], **options: Any) -> str:
        """Submits a job; returns its id.

        Args:
            job: the command.
            runtime_env: Ray's runtime environment of the job; local folders in it are sent.
            options: of Ray's `submit_job`.

        Raises:
            ResourceError: the cluster does not take it.
        """
        identity = f"{safe_name(job.name)}-{secrets.token_hex(3)}"
        options = {"entrypoint": job.entrypoint, "metadata": job.metadata, "submission_id": identity, **options}
        variables = {**(runtime_env.get("env_vars") or {}), JOB_VARIABLE: identity, ADDRESS_VARIABLE: self.address}
        if os.path.isabs(job.config_file or ""):
            variables[CONFIG_VARIABLE] = str(job.config_file)
        self._submitted(runtime_env={**runtime_env, "env_vars": variables}, **options)
        return identity

    def run_small(self, entrypoint: str, runtime_env: Mapping[str, Any], seconds: float) -> int | None:
        """Runs a small job to its end; returns its exit code, or None if it does not end in time."""
        identity = f"request-{secrets.token_hex(4)}"
        self._submitted(entrypoint=entrypoint, submission_id=identity, runtime_env=dict(runtime_env))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            info = self.info(identity)
            if info.status not in ACTIVE:
                return info.driver_exit_code
            time.sleep(0.5)
        self.stop(identity)
        return None

    def _submitted(self, **options: Any) -> None:
        began, said = time.monotonic(), False
        while True:
            try:
                self._answer(self._client.submit_job, seconds=_UPLOAD_SECONDS, **options)
                return
            except ResourceError as error:
                if _NO_AGENT not in str(error) or time.monotonic() - began > _AGENT_SECONDS:
                    raise
            if not said:  # the cluster has just been started
                print_line(f"no node of the cluster takes jobs yet; trying again for {duration(_AGENT_SECONDS)}")
                said = True
            time.sleep(1)

    def info(self, identity: str) -> Any:
        """Ray's `JobDetails` of a job.

        Raises:
            ResourceError: there is no such job, or the cluster does not answer.
        """
        return self._answer(self._client.get_job_info, identity)

    def jobs(self) -> list[Any]:
        """Ray's `JobDetails` of all jobs that this package submitted, the oldest first."""
        found = [job for job in self._all_jobs() if "ray_classy" in (job.metadata or {})]
        return sorted(found, key=lambda job: (job.start_time or 0, job.submission_id))

    def _all_jobs(self) -> list[Any]:
        return self._answer(self._client.list_jobs)

    def find(self, name: str) -> Any:
        """The job of that id, or that of the run of that name which is active, or the last one.

        Raises:
            ResourceError: there is none, or several are active.
        """
        jobs = self.jobs()
        found = [job for job in jobs if job.submission_id == name]
        found = found or [job for job in jobs if name in (job.metadata.get("name"), job.metadata.get("run"))]
        if not found and any(job.submission_id == name for job in self._all_jobs()):
            raise ResourceError(
                f"the job {name} was not submitted by ray_classy: look after it with `ray job logs {name}`, `ray job "
                f"status {name}` and `ray job stop {name}`"
            )
        if not found:
            known = ", ".join(job.submission_id for job in jobs[-5:]) or "none"
            raise ResourceError(f"no job of the cluster at {self.address} is {name!r}; the last ones: {known}")
        active = [job for job in found if job.status in ACTIVE]
        if len(active) > 1:
            listed = ", ".join(job.submission_id for job in active)
            raise ResourceError(f"{len(active)} jobs of the name {name!r} are active; give the id of one: {listed}")
        return (active or found)[-1]

    def stop(self, identity: str) -> None:
        """Lets Ray stop a job: by SIGTERM, and later by SIGKILL."""
        self._answer(self._client.stop_job, identity)

    def withdraw(self, identity: str) -> None:
        """Stops a job that has just been submitted, and removes it from the list of jobs once it has ended."""
        self.stop(identity)
        wait_for_end(self, identity, _WITHDRAW_SECONDS)
        with contextlib.suppress(ResourceError):  # it has not ended, and stays in the list
            self._answer(self._client.delete_job, identity)

    def log(self, identity: str) -> AsyncIterator[str]:
        """The log of a job from its first line on, in pieces, as it is written."""
        return self._client.tail_job_logs(identity)

    def _answer(self, function: Callable[..., T], *arguments: Any, seconds: float | None = None, **options: Any) -> T:
        """What a function of Ray's client returns, which would itself wait without limit."""
        import requests
        from ray.exceptions import AuthenticationError

        seconds = _ANSWER_SECONDS if seconds is None else seconds
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(function(*arguments, **options))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        try:
            return future.result(seconds)
        except TimeoutError:
            raise LostConnection(
                f"the Ray dashboard at {self.address} does not answer within {seconds:.0f} s"
            ) from None
        except AuthenticationError:
            raise
        except (ConnectionError, requests.exceptions.RequestException) as error:
            raise LostConnection(f"no Ray dashboard answers at {self.address} ({_reason(error)})") from None
        except (RuntimeError, ValueError) as error:
            if re.search(r"status code 50[234]\b", str(error)):  # of a proxy, whose dashboard is away
                raise LostConnection(f"no Ray dashboard answers at {self.address} ({_reason(error)})") from None
            raise ResourceError(f"the Ray cluster at {self.address} says: {_reason(error)}") from None


def _url(address: str) -> str:
    """The URL of a dashboard.

    Raises:
        ResourceError: the text is none.
    """
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise ResourceError(
            f"{address!r} is not the address of a Ray dashboard, to which jobs are submitted: expected http://HOST:8265"
        )
    return url.rstrip("/")


def _check_listening(url: str) -> None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ResourceError(
            f"no Ray dashboard answers at {url} ({reason}): give the address of a cluster with --address "
            f"http://HOST:8265; the cluster needs `pip install 'ray[default]'`"
        ) from None


def _reason(error: BaseException) -> str:
    """The last line of an error that may hold a traceback of the server."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if len(lines) < 3 else f"{lines[0]} {lines[-1]}")[:600] if lines else type(error).__name__


@contextlib.contextmanager
def _unset(names: tuple[str, ...]) -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def wait_for_end(cluster: Cluster, identity: str, seconds: float) -> Any:
    """Waits until a job has ended, or that time is over; returns its details."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(LostConnection):
            info = cluster.info(identity)
            if info.status not in ACTIVE:
                return info
        if time.monotonic() > end:
            return cluster.info(identity)
        time.sleep(0.5)
