"""Results of commands, and how they are printed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.display import short
from ray_classy.printable import command_line
from ray_classy.redact import redacted_values
from ray_classy.trainer.interrupts import interrupted

__all__ = ["Answer", "command_line", "json_text", "resumed_by", "short", "stdout_to_stderr"]


@dataclass(frozen=True)
class Answer:
    """The result of a command.

    Attributes:
        text: the form for people.
        data: the form for programs (--json).
        public: whether the text has no values of the user's, in which a secret could be.
        exit_code: of the command.
    """

    text: str
    data: dict[str, Any] = field(default_factory=dict)
    public: bool = False
    exit_code: int = 0


def resumed_by(error: BaseException, command: str) -> KeyboardInterrupt:
    """The same interrupt as `error`, with a message that names the command that resumes; "" if there is none."""
    return interrupted(error, f"interrupted; resume with: {command}" if command else "")


def json_text(data: Mapping[str, Any]) -> str:
    """Converts data to one line of JSON without secrets; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_finite(redacted_values(data)), allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirects standard output to standard error for the block, including that of child processes."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
