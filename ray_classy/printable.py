"""Text from files and other programs, made fit for a terminal and a log."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable

from ray_classy.job_driver import submitting_words

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: object) -> str:
    r"""Returns a text on one line, in which characters that could deceive its reader are escaped as in Python.

    These are control characters (new lines and the escape sequences of terminals among them), those that hide or
    reorder what follows, and surrogates, which cannot be encoded: `printable("a\nb")` is `a\\nb`.

    Args:
        text: a string, or a value whose `str` is taken.
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def printable_lines(text: str) -> str:
    """Returns a text of several lines, each of them `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def shell_word(text: str, encodings: Iterable[str] | None = None) -> str:
    r"""Returns a word for a shell, quoted where it needs to be, so that a printed command can be pasted.

    A word that would be printed in another form is written as bash and zsh read it: `$'l\303\244ufe'`.

    Args:
        text: the word; a name of a file may have surrogates for bytes that are not UTF-8.
        encodings: of the streams that it is printed to; None are those of standard output and error.
    """
    if encodings is None:
        encodings = [getattr(stream, "encoding", None) or "utf-8" for stream in (sys.stdout, sys.stderr)]
    if printable(text) == text and all(_fits(text, encoding) for encoding in encodings):
        return shlex.quote(text)
    escaped = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\{byte:03o}" for byte in os.fsencode(text)
    )
    return f"$'{''.join(escaped)}'"


def command_line(*words: str) -> str:
    """Returns a `ray-classy` command, quoted for a shell, so that it can be pasted; in a job, one that submits it."""
    return " ".join(["ray-classy", *map(shell_word, [*submitting_words(words[0]), *words])])


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
