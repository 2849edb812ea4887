"""The places of errors in a config: file, line and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray_classy.config.document import dotted, mark_of
from ray_classy.errors import ConfigError, RayClassyError
from ray_classy.memory import reason_of


def locate(config: Any, *path: str | int) -> str:
    """Returns the file, line and key of a value, to begin a message with; empty if the config is not from a file.

    Args:
        config: of a task; None if it was built in Python.
        path: of the value; its first steps count, as far as the config has them.
    """
    if getattr(config, "file", None) is None:
        return ""
    inner, known = config, 0
    for step in path:
        try:
            inner = inner[step]
        except (KeyError, IndexError, TypeError):
            break
        known += 1
    path = path[:known]
    return f"{mark_of(config, path)}: {dotted(path)}: " if path else ""


@contextmanager
def locate_errors(config: Mapping[str, Any], *path: str | int) -> Iterator[None]:
    """Adds the place in the config to an error in building a part."""
    try:
        yield
    except ConfigError:
        raise
    except (
        RayClassyError,
        TypeError,
        ValueError,
        KeyError,
        AssertionError,
        RuntimeError,
        OSError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = str(error) if isinstance(error, RayClassyError) else reason_of(error)
        place = ": ".join(filter(None, (str(mark_of(config, path)), dotted(path))))
        raise ConfigError(f"{place}: {reason}") from error
