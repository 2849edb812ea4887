"""What a Ray that is started for one run does otherwise than Ray would by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from ray_classy.errors import ResourceError
from ray_classy.ray_compat import replaced

_CONSTANTS = "ray._private.ray_constants"
_MULTI_NODE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_LONGEST_FOLDER = 40
"""A socket's path has at most 107 bytes, of which Ray's own names take up to 66."""
_FOLDER = "/ray_12345678/r"


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """A local Ray that is started in the block listens on 127.0.0.1 alone.

    Ray's public `_node_ip_address` replaces 127.0.0.1 by the address that others reach. Ray 2.57 to 2.60 have another
    way, by default on macOS and Windows. Without it Ray listens on all interfaces.
    """
    with contextlib.ExitStack() as stack:
        if _MULTI_NODE not in os.environ:  # read when Ray is imported, and by Ray's processes
            stack.enter_context(
                replaced(f"{_CONSTANTS}:ENABLE_RAY_CLUSTER", False, "the local Ray listens on all interfaces")
            )
            os.environ[_MULTI_NODE] = "0"
            stack.callback(os.environ.pop, _MULTI_NODE, None)
        yield


@contextlib.contextmanager
def without_uv() -> Iterator[None]:
    """Under `uv run`, Ray does not pack the whole working directory for workers in the block.

    Ray fails where the folder exceeds 512 MiB, and the workers get the code anyway. Whoever sets
    RAY_ENABLE_UV_RUN_RUNTIME_ENV keeps Ray's behaviour. Ray 2.57 to 2.60 have it. Without it Ray packs the folder.
    """
    name, hook = "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "RAY_RUNTIME_ENV_HOOK"
    with contextlib.ExitStack() as stack:
        if name not in os.environ:
            stack.enter_context(replaced(f"{_CONSTANTS}:{name}", False, "under uv, Ray packs the working directory"))
            if "uv_runtime_env_hook" in os.environ.get(hook, ""):
                stack.callback(os.environ.__setitem__, hook, os.environ.pop(hook))
        yield


def job_config() -> Any:
    """A job whose workers do not search the script's folder and the working directory before everything else.

    Ray does that for jobs without a working directory of their own, so that a file such as `secrets.py` would replace a
    module of the standard library in all workers. Ray 2.57 to 2.60 ask the method. Without it Ray adds the folders.
    """
    from ray.job_config import JobConfig

    class Job(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    return Job()


@contextlib.contextmanager
def private_folders(keep: bool = False) -> Iterator[dict[str, Any]]:
    """Options of `ray.init` with which a local Ray keeps its files where no other user has access.

    Ray's own folder is writable for all, also the logs and the values in it, and too long for a socket where TMPDIR is.

    Args:
        keep: leave the folder, with Ray's logs, for the user to read.

    Raises:
        ResourceError: no folder for temporary files has a path that is short enough.
    """
    bases = [os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp", "/var/tmp"]
    usual = next(base for base in bases if base)
    for base in bases:
        if base and len(os.fsencode(base)) + len(_FOLDER) <= _LONGEST_FOLDER:
            with contextlib.suppress(OSError):
                folder = tempfile.mkdtemp(prefix="ray_", dir=base)
                break
    else:
        raise ResourceError(
            f"a local Ray needs a folder for temporary files with a path of at most "
            f"{_LONGEST_FOLDER - len(_FOLDER)} bytes, and {usual!r} is longer: set RAY_TMPDIR to a shorter one"
        )
    folders = [folder]
    options = {"_temp_dir": os.path.join(folder, "r")}  # Ray makes it writable for all, but no one else gets there
    if base != usual:  # it is where the user has room: what does not fit in memory goes there
        with contextlib.suppress(OSError):
            folders.append(tempfile.mkdtemp(prefix="ray_", dir=usual))
            options["object_spilling_directory"] = folders[-1]
    try:
        yield options
    finally:
        for each in () if keep else folders:
            shutil.rmtree(each, ignore_errors=True)
