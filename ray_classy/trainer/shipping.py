"""How a task and its code travel to the workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

import ray_classy
from ray_classy.errors import ShippingError
from ray_classy.user_code import own_folders

_MOST_CODE_BYTES = 20 << 20
_SKIPPED = {"__pycache__", "node_modules", "runs", "build", "dist"}


def pickled(task: Any) -> bytes:
    """The task as it is now, with everything that was set on it.

    Raises:
        ShippingError: a part does not pickle; the message names it by its path.
    """
    try:
        return cloudpickle.dumps(task)
    except Exception as error:
        path, value, reason = _culprit(task, "task", error)
        raise ShippingError(
            f"{path} cannot be sent to the workers: {type(value).__name__} does not pickle ({reason}). "
            f"Make it where it is used (in on_start of a hook, say), or leave it out in __getstate__"
        ) from None


def _culprit(value: Any, path: str, error: Exception, depth: int = 0) -> tuple[str, Any, Exception]:
    """The deepest part that does not pickle."""
    for name, part in _parts(value) if depth < 12 else ():
        try:
            cloudpickle.dumps(part)
        except Exception as deeper:
            return _culprit(part, path + name, deeper, depth + 1)
    return path, value, error


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((f".{name}", part) for name, part in _pickled_state(value).items())


def _pickled_state(value: Any) -> Mapping[str, Any]:
    """The attributes that are pickled with an object."""
    with contextlib.suppress(Exception):
        state = value.__getstate__()
        if isinstance(state, Mapping):
            return state
    return vars(value)


@contextlib.contextmanager
def staged_code() -> Iterator[str]:
    """A temporary folder with this package and the Python files that the driver's own modules come from.

    Nodes that lack them get it as their working directory. The user's files are those in the folders of `sys.path` that
    are no part of the Python installation: the script's folder and that of the config.
    """
    with tempfile.TemporaryDirectory(prefix="ray_classy_code_") as folder:
        package = os.path.dirname(os.path.abspath(ray_classy.__file__))
        shutil.copytree(package, os.path.join(folder, "ray_classy"), ignore=shutil.ignore_patterns("__pycache__"))
        size = 0
        for source in own_folders():
            for file in _python_files(source):
                target = os.path.join(folder, os.path.relpath(file, source))
                size += os.path.getsize(file)
                if size > _MOST_CODE_BYTES:
                    break
                if not os.path.exists(target):
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    shutil.copyfile(file, target)
        yield folder


def _python_files(folder: str) -> Iterator[str]:
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.endswith(".py") and os.path.isfile(path):
            yield path
        elif os.path.isfile(os.path.join(path, "__init__.py")) and name not in _SKIPPED:
            yield from _python_files(path)
