"""How the targets of a dataset of tables are given: which columns, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from ray_classy.dataset.class_match import few
from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import nearest


@dataclass(frozen=True)
class TargetOptions:
    """Where a target comes from: a column with one label or a list, one with a separator, or one column per class.

    Args:
        column: name of the column of labels; its number in CSV without names.
        separator: what stands between the labels of a row, in a column of texts.
        columns: names or globs of columns with 0 or 1, one for each class.
        classes: class names in the order of their indices.
        optional: whether rows may have no label of this target; null is ignored by losses and meters then.

    Raises:
        ComponentError: not exactly one of `column` and `columns` is given, or a value has another type.
    """

    column: str | int | None = None
    separator: str | None = None
    columns: str | Sequence[str] | None = None
    classes: Sequence[str] | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if (self.column is None) == (self.columns is None):
            raise ComponentError(f"give either `column` or `columns`, not {'both' if self.column else 'neither'}")
        if self.separator is not None and (not isinstance(self.separator, str) or not self.separator.strip(" ")):
            raise ComponentError(f"the separator of labels must be text such as '|', not {self.separator!r}")
        if self.separator is not None and self.columns is not None:
            raise ComponentError("columns of 0 and 1 have no separator: leave it out, or give one `column`")
        if type(self.optional) is not bool:
            raise ComponentError(f"optional must be true or false, not {self.optional!r}")
        globs = [self.columns] if isinstance(self.columns, str) else self.columns
        strings = isinstance(globs, Sequence) and all(isinstance(one, str) and one for one in globs)
        if globs is not None and not (strings and globs):
            raise ComponentError(f"columns must be a list of names or globs such as 'has_*', not {self.columns!r}")

    def columns_among(self, there: Sequence[str], file: str, taken: Sequence[Any] = ()) -> list[Any]:
        """Returns the columns to read, of those that a file has.

        Args:
            there: the file's columns.
            file: its name, in errors.
            taken: columns of something else, which globs leave out.

        Raises:
            DataError: the file has no such column.
        """
        if self.columns is None:
            return [self.column]
        found: dict[str, None] = {}
        for glob in [self.columns] if isinstance(self.columns, str) else self.columns:
            matching = [name for name in there if fnmatchcase(name, glob) and (name == glob or name not in taken)]
            if not matching:
                near = nearest(glob, list(there))
                hint = f"did you mean {near}?" if near else f"it has {few(there)}"
                raise DataError(f"{file} has no column {glob!r} of label_columns: {hint}")
            found.update(dict.fromkeys(matching))
        return list(found)


def target_options(
    label_column: Any,
    label_separator: str | None,
    label_columns: str | Sequence[str] | None,
    targets: Mapping[str, Any] | None,
    classes: Sequence[str] | None,
) -> dict[str, TargetOptions] | None:
    """Returns the options of each target by name; None if there is one column with one label, or none.

    Args:
        label_column: the dataset's argument, as are the others.
        label_separator: of the labels in that column.
        label_columns: columns of 0 and 1, in the place of that column.
        targets: columns or options, by the names of several targets.
        classes: of the only target.

    Raises:
        ComponentError: arguments do not go together; the message names the target.
    """
    if targets is None:
        if label_columns is not None:
            if label_separator is not None:
                raise ComponentError("label_columns hold 0 and 1, and have no label_separator: leave one of them out")
            return {ONLY: TargetOptions(columns=label_columns, classes=classes)}
        if label_separator is None:
            return None
        if label_column is None:
            raise ComponentError("label_column is null: label_separator needs the column of labels")
        return {ONLY: TargetOptions(label_column, label_separator, classes=classes)}
    others = {"label_separator": label_separator, "label_columns": label_columns, "classes": classes}
    given = [name for name, value in others.items() if value is not None]
    if given or label_column not in ("label", None):
        raise ComponentError(
            f"`targets` gives the columns, classes and separators of each target: leave out "
            f"{', '.join(given or ['label_column'])}"
        )
    if not isinstance(targets, Mapping) or not targets:
        raise ComponentError(f"targets must be a mapping from names to columns or options, not {targets!r}")
    return {name: _options(name, value) for name, value in targets.items()}


def _options(name: Any, value: Any) -> TargetOptions:
    if not isinstance(name, str) or not name or "." in name or "/" in name:
        raise ComponentError(f"targets: the name of a target must be text without dots and slashes, not {name!r}")
    if isinstance(value, str) or type(value) is int:
        return TargetOptions(value)
    known = [field.name for field in fields(TargetOptions)]
    if not isinstance(value, Mapping):
        raise ComponentError(f"targets.{name} must be a column, or a mapping of {', '.join(known)}, not {value!r}")
    wrong = [key for key in value if key not in known]
    if wrong:
        raise ComponentError(f"targets.{name} has no key {wrong[0]!r}: it takes {', '.join(known)}")
    try:
        return TargetOptions(**value)
    except ComponentError as error:
        raise ComponentError(f"targets.{name}: {error}") from None
