"""What docstrings say about arguments: the source of the descriptions in schemas, listings and documents."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

_SECTION = re.compile(r"(Args|Attributes)\b[^:]*:")
_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")
_REFERENCE = re.compile(r"see `(\w+)`[.;]? ?(.*)")
_NONE = re.compile(r"\bNone\b")
_OTHERS = ("torch", "torchvision", "ray", "builtins", "abc", "typing")


def summary(cls: type) -> str:
    """Returns the first paragraph of a class's own docstring on one line; empty if it has none, or is of others."""
    return "" if _is_of_others(cls) else " ".join((inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]).split())


def for_configs(text: str) -> str:
    """Writes a sentence about a value of Python as one about a value of a config: null for None, from a capital on."""
    text = _NONE.sub("null", text)
    return text[:1].upper() + text[1:]


def argument_docs(cls: type) -> Mapping[str, str]:
    """Returns what the docstrings of a class and of its bases say about arguments and attributes, by name.

    Docstrings of torch, torchvision and Ray are not read.
    """
    return _argument_docs(cls)


@functools.cache
def _argument_docs(cls: type) -> dict[str, str]:
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if _is_of_others(base):
            continue
        constructor = vars(base).get("__init__")
        for owner in (base, constructor):
            for name, text in _entries(vars(owner).get("__doc__") if owner is base else getattr(owner, "__doc__", "")):
                text = _resolved(name, text, base, docs.get(name, ""))
                if text:
                    docs[name] = text
    return docs


def _is_of_others(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _OTHERS


def _entries(doc: Any) -> list[tuple[str, str]]:
    """Returns (name, text) of each entry of the sections "Args" and "Attributes" of a docstring."""
    found: list[tuple[list[str], list[str]]] = []
    inside = False
    for line in inspect.cleandoc(doc or "").splitlines():
        if line and not line.startswith(" "):
            inside = _SECTION.fullmatch(line) is not None
            continue
        entry = _ENTRY.fullmatch(line) if inside else None
        if entry:
            found.append((entry[1].split(", "), [entry[2]]))
        elif inside and found and line.strip():
            found[-1][1].append(line.strip())
    return [(name, " ".join(lines)) for names, lines in found for name in names]


def _resolved(name: str, text: str, cls: type, inherited: str) -> str:
    """Replaces "see `Class`" by what that class says about an argument of the name."""
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        return text
    other = vars(sys.modules[cls.__module__]).get(reference[1])
    found = argument_docs(other).get(name, "") if isinstance(other, type) and other is not cls else ""
    return " ".join(filter(None, (found or inherited, reference[2])))
