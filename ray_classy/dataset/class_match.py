"""Matches lists of classes by name: those of two datasets, or of a dataset and a checkpoint."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_classy.errors import DataError

_FEW = 5


def numbers_of(names: Sequence[str]) -> dict[int, int] | None:
    """Returns the classes' indices by the integers that are their names; None unless all names are such, and differ.

    `["0", "1", "10", "2"]` gives `{0: 0, 1: 1, 10: 2, 2: 3}`.
    """
    if not names or not all(re.fullmatch(r"[+-]?[0-9]{1,18}", name) for name in names):
        return None
    numbers = {int(name): index for index, name in enumerate(names)}
    return numbers if len(numbers) == len(names) else None


def check_class_names(names: Sequence[Any], what: str) -> None:
    """Checks that names of classes are different strings, also without the spaces around them.

    Args:
        names: the classes in the order of their targets.
        what: where they are from, in errors: "`classes`".

    Raises:
        DataError: one is not a string, is empty, or is there twice.
    """
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            written = f"write '{name}' in quotes" if isinstance(name, bool | int | float) else "remove it"
            raise DataError(f"{what}, entry {index}: {name!r} is not the name of a class (a string): {written}")
        before = seen.setdefault(_bare(name), index)
        if before != index:
            same = "is there twice" if names[before] == name else f"and {names[before]!r} differ in spaces only"
            raise DataError(
                f"{what}: the class {name!r} {same} (entries {before} and {index}): each class has one name and one "
                f"target"
            )


def alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns pairs of classes whose names differ in upper and lower case only."""
    seen: dict[str, str] = {}
    pairs = [(seen.setdefault(name.casefold(), name), name) for name in names]
    return [pair for pair in pairs if pair[0] != pair[1]]


def share_a_name(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists have a name in common, also one that differs in case, spaces or the encoding of accents."""
    return not {_bare(name).casefold() for name in one}.isdisjoint(_bare(name).casefold() for name in other)


def class_map(
    own: Sequence[str] | None,
    known: Sequence[str] | None,
    labels: np.ndarray | None = None,
    sides: tuple[str, str] = ("there", "here"),
    whole: bool = False,
) -> dict[int, int]:
    """Returns, by a dataset's targets, the targets of the same classes in another list; unchanged ones may be left out.

    Names are matched with equal names, and integers with the names that are those integers.

    Args:
        own: the dataset's classes; None if its targets are integers without names.
        known: the classes to match, likewise.
        labels: the dataset's targets, where it has no names.
        sides: what to call the other list and the dataset in errors: ("in train", "in test").
        whole: whether the dataset must have all of the classes.

    Raises:
        DataError: a class has no counterpart. The message is the end of a sentence.
    """
    if own is None and known is None:
        return {}
    if own is None or known is None:
        return _between_names_and_numbers(own, known, labels, sides)
    there, here = {name: index for index, name in enumerate(known)}, set(own)
    lacking, extra = [name for name in known if name not in here], [name for name in own if name not in there]
    if extra or (whole and lacking):
        found = zip(sides, (lacking, extra), strict=True)
        raise DataError(
            "; ".join(f"only {side}: {names[:_FEW]}" for side, names in found if names) + _hint(lacking, extra)
        )
    return {index: there[name] for index, name in enumerate(own) if there[name] != index}


def _between_names_and_numbers(
    own: Sequence[str] | None, known: Sequence[str] | None, labels: np.ndarray | None, sides: tuple[str, str]
) -> dict[int, int]:
    names = own if own is not None else known
    assert names is not None
    numbers = numbers_of(names)
    named, unnamed = sides if own is None else sides[::-1]
    if numbers is None:
        raise DataError(
            f"classes have names {named} ({few(names)}) and are numbers {unnamed}, so that nothing says which number "
            f"is which class"
        )
    if own is not None:
        return {index: number for number, index in numbers.items()}
    lost = sorted({int(label) for label in np.unique(labels if labels is not None else []) if label >= 0} - {*numbers})
    if lost:
        raise DataError(f"classes are named {few(names)} {named}, and {few(lost)} only {unnamed}")
    return numbers


def mapped(targets: np.ndarray, by_target: Mapping[int, int]) -> np.ndarray:
    """Returns targets, shape (rows,), after a mapping; those that it does not have stay."""
    if not by_target:
        return targets
    keys = np.array(sorted(by_target), dtype=np.int64)
    values = np.array([by_target[int(key)] for key in keys], dtype=np.int64)
    at = np.searchsorted(keys, targets).clip(max=len(keys) - 1)
    return np.where(keys[at] == targets, values[at], targets)


def few(values: Sequence[Any]) -> str:
    """Writes the first of some values."""
    return ", ".join(map(str, values[:_FEW])) + (", ..." if len(values) > _FEW else "")


def yaml_list(names: Sequence[str]) -> str:
    """Writes the first names as they are written into a config: "[cat, '10', ...]"."""
    plain = re.compile(r"(?!(?i:y|n|yes|no|on|off|true|false|null)$)[^\W\d][\w-]*")
    return f"[{few([name if plain.fullmatch(name) else repr(name) for name in names])}]"


def _bare(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _hint(lacking: Sequence[str], extra: Sequence[str]) -> str:
    """Says so where two names differ in a way that is hard to see."""
    known = {_bare(name).casefold(): name for name in lacking}
    for name in extra:
        other = known.get(_bare(name).casefold())
        if other is not None:
            return f" ({other!a} and {name!a} differ in case, spaces or the encoding of accents only)"
    return ""
