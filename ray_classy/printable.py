"""Text from files and other programs, made fit for a terminal and a log."""

from __future__ import annotations

import re

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
