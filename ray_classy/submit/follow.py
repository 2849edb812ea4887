"""Follows a job: its log, across lost connections, and the exit code that it ends with."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from ray_classy.display import duration, print_line
from ray_classy.errors import RunError
from ray_classy.printable import printable
from ray_classy.submit.cluster import ACTIVE, Cluster, LostConnection

_QUIET_SECONDS = 15.0
"""Without a line of the log, after which the connection is tried."""
_PATIENCE_SECONDS = 600.0
_LONGEST_PAUSE = 15.0
_SECONDS_BETWEEN_REMARKS = 30.0
_KILLED = 143
_MOST_OF_MESSAGE = 2000
_INSTALLED = ("pip", "uv", "conda", "image_uri")
"""Keys of a runtime environment that take minutes."""


def follow(cluster: Cluster, identity: str, write: Callable[[str], Any], patience: float = _PATIENCE_SECONDS) -> Any:
    """Passes the log of a job on until the job ends; returns Ray's `JobDetails`.

    Args:
        cluster: where it runs.
        identity: of the job.
        write: is called with pieces of the log, from its first line on, each once.
        patience: the seconds for which a lost connection is tried again.

    Raises:
        LostConnection: the cluster has not answered for that long.
    """
    written, pause = Written(write), 1.0
    lost: float | None = None
    while True:
        try:
            _wait_for_start(cluster, identity)
            if lost is not None:
                print_line(f"connected to {cluster.address} again")
            lost, pause = None, 1.0
            asyncio.run(_pass_on(cluster, identity, written))
            info = cluster.info(identity)
            if not is_active(info):
                return info
        except LostConnection as error:
            if lost is None:
                print_line(f"lost the connection: {error}; trying again for {duration(patience)}")
                lost = time.monotonic()
            elif time.monotonic() - lost > patience:
                raise LostConnection(f"{error}, for {duration(patience)} now; the job may go on") from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class Written:
    """Passes a log on that is read from its first line on after each lost connection, but each piece of it once."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._count = 0

    def add(self, text: str, position: int) -> None:
        """Passes on what is new of a piece that begins at that character of the log."""
        new = text[max(self._count - position, 0) :]
        if new:
            self._count = position + len(text)
            self._write(new)


def _wait_for_start(cluster: Cluster, identity: str) -> Any:
    """Waits until a job is not pending any more, and says now and then why it is."""
    began = time.monotonic()
    remarks = 0
    while True:
        info = cluster.info(identity)
        if info.status != "PENDING":
            return info
        if time.monotonic() - began > (remarks + 1) * _SECONDS_BETWEEN_REMARKS:
            remarks += 1
            print_line(f"the job {identity} has waited for {duration(time.monotonic() - began)}: {_cause(info)}")
        time.sleep(0.5)


def _cause(info: Any) -> str:
    """What a pending job waits for."""
    kinds = [kind for kind in _INSTALLED if (info.runtime_env or {}).get(kind)]
    if not kinds:
        return printable(info.message)
    return (
        f"Ray prepares `{'` and `'.join(kinds)}` of ray.runtime_env; on nodes that run in a virtual environment it "
        f"copies that first, and it tries three times"
    )


async def _pass_on(cluster: Cluster, identity: str, written: Written) -> None:
    """Passes the log on to its end.

    Raises:
        LostConnection: the cluster does not answer any more.
    """
    position = 0
    log = cluster.log(identity)
    waiting = asyncio.ensure_future(_next(log))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=_QUIET_SECONDS)
            if not done:
                await asyncio.to_thread(cluster.info, identity)  # a connection that is cut is silent too
                continue
            text = waiting.result()
            if text is None:
                return
            written.add(text, position)
            position += len(text)
            waiting = asyncio.ensure_future(_next(log))
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _next(log: AsyncIterator[str]) -> str | None:
    """The next piece of a log; None at its end."""
    try:
        return await anext(log, None)
    except Exception as error:  # of the socket, of aiohttp, or a RuntimeError of Ray's
        raise LostConnection(f"the log ended ({type(error).__name__}: {error})") from None


def exit_code(info: Any) -> int:
    """The exit code of the command of a job that has ended.

    Args:
        info: Ray's `JobDetails`.

    Raises:
        RunError: the job died, not its command.
    """
    if info.status == "SUCCEEDED":
        return 0
    if info.status == "STOPPED":
        return _KILLED
    code = info.driver_exit_code
    if code is None:
        when = "before its command began" if info.driver_node_id is None else "and its command with it"
        raise RunError(f"the job {info.submission_id} died {when}: {_why(info.message)}")
    return code if code >= 0 else 128 - code


def _why(message: str | None) -> str:
    """What the user has to know of a message of Ray's: what it begins with, and what follows its tracebacks."""
    lines = [printable(line) for line in (message or "Ray does not say why").splitlines() if line.strip()]
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    if frames:
        after = itertools.dropwhile(lambda line: line.startswith("    "), lines[frames[-1] + 1 :])
        lines = [*lines[: 1 if frames[0] > 1 else 0], *after]
    while len(lines) > 2 and sum(map(len, lines)) > _MOST_OF_MESSAGE:
        del lines[1]
    return "\n".join(lines)


def is_active(info: Any) -> bool:
    """Whether a job has not ended yet."""
    return info.status in ACTIVE
