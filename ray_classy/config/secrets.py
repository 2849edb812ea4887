"""Values that a run's record lacks because they are secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.config.check import Problem, raise_problems
from ray_classy.config.document import Config, Path
from ray_classy.redact import MASK, is_secret


def restore_secrets(config: Config) -> None:
    """Replaces each masked secret of a config by the environment variable of its name.

    Args:
        config: is changed.

    Raises:
        ConfigError: there is no such variable; the message lists all the masked values.
    """
    problems = []
    for section, step, path in _masked(config, ()):
        name = str(path[-1])
        named = any(is_secret(str(part)) for part in path)  # others had the value of a variable that is a secret
        if named and name in os.environ:
            section[step] = os.environ[name]
        else:
            variable = f", or in the environment variable {name}" if named else ""
            text = f"is masked ({MASK}), as no secret is recorded: give the value on the command line{variable}"
            problems.append(Problem(path, text))
    raise_problems(problems, config)


def _masked(value: Any, path: Path) -> Iterator[tuple[Any, Any, Path]]:
    """Yields the container, the key and the path of each value that is masked."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for step, inner in items:
        here = (*path, step)
        if inner == MASK:
            yield value, step, here
        else:
            yield from _masked(inner, here)
