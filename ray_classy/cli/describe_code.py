"""What `ray-classy check` prints about the code that the nodes of a cluster get."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray_classy.cli.output import short
from ray_classy.ingest.store_memory import format_bytes
from ray_classy.trainer.shipped_code import users_modules

_MOST_NAMED = 20


def describe_code(address: str | None) -> dict[str, Any]:
    """Returns the user's files that are sent to the nodes of a cluster, with their bytes, and those left out.

    Args:
        address: of the cluster; None or "local" for a local Ray.

    Raises:
        ShippingError: a module has the name of another one, or they are too large for a cluster.
    """
    local = address is None or address == "local"
    modules = users_modules(local)
    if not local:
        modules.check()
    return {
        "files": {file.name: file.size for file in modules.files},
        "bytes": modules.size,
        "left_out": modules.left_out,
    }


def code_lines(code: dict[str, Any]) -> Iterator[str]:
    """Returns the lines for people."""
    files = code["files"]
    if files:
        count = f"{len(files)} {'file' if len(files) == 1 else 'files'}"
        each = [f"{name} ({format_bytes(size)})" for name, size in list(files.items())[:_MOST_NAMED]]
        each += [f"{len(files) - _MOST_NAMED} more"] if len(files) > _MOST_NAMED else []
        yield f"code that nodes of a cluster get: {count}, {format_bytes(code['bytes'])}: {', '.join(each)}"
    for path, reason in list(code["left_out"].items())[:_MOST_NAMED]:
        yield f"code that nodes of a cluster do not get: {short(path)} ({reason})"
