"""The private and version-dependent parts of Ray that this package uses, each with a fallback.

No other module names them. An entry is kept only where Ray's public interface cannot hold one of four promises: a run
resumes exactly, it never waits without a message, it frees what it held, it starts quickly. The docstring of each entry
says which promise it serves, which Ray versions have the name, and what happens on a Ray without it: Ray's public
behaviour and one line in the log, never an ImportError.

    settings    environment variables that Ray reads
    local       what a Ray that is started for one run does otherwise than Ray would
    authentication  the token of a cluster
    cluster     nodes, free resources, placement groups, the dashboard, the autoscaler
    train       the trainer's controller: policies, callbacks, preemption; fields of Ray's config classes
    tune        trials, schedulers
    data        blocks of a dataset
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterator
from typing import Any

_log = logging.getLogger(__name__)


@functools.cache
def log_missing(name: str, consequence: str) -> None:
    """Logs once per process that this Ray lacks a name, and what happens instead."""
    import ray

    _log.warning("Ray %s has no %s: %s", ray.__version__, name, consequence)


def find(path: str, consequence: str) -> Any:
    """Imports a private name of Ray; returns None, and logs it once, if this Ray does not have it.

    Args:
        path: "module:name", or "module:object.name".
        consequence: what happens without it, for the log.
    """
    module, _, names = path.partition(":")
    try:
        return functools.reduce(getattr, names.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        log_missing(f"{module}.{names}", consequence)
        return None


@contextlib.contextmanager
def replaced(path: str, value: Any, consequence: str) -> Iterator[None]:
    """Gives a private name of Ray's another value for the block; logs it once, if this Ray does not have it.

    Args:
        path: "module:name".
        value: for the block.
        consequence: what happens without it, for the log.
    """
    module_name, _, name = path.partition(":")
    if find(path, consequence) is None:
        yield
        return
    module = importlib.import_module(module_name)
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
