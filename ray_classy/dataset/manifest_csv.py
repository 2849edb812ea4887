"""Reads columns of CSV files."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ray_classy.dataset.manifest_text import check_names, not_utf8, open_lines, open_manifest, read_head
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import shown

_DELIMITERS = (",", ";", "\t", "|")


def check_delimiter(delimiter: str | None) -> str | None:
    """Returns the character that separates values; `\\t` as text means a tab.

    Raises:
        ComponentError: it is not a single character, or CSV uses the character for something else.
    """
    delimiter = "\t" if delimiter in ("\\t", "tab") else delimiter
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise ComponentError(f"delimiter must be one character, such as ';', or null to find it, not {delimiter!r}")
    if delimiter is not None and not delimiter.isascii():
        raise ComponentError(f"delimiter must be an ASCII character, not {delimiter!r}")
    return delimiter


def read_csv(file: str, columns: Sequence[str | int], delimiter: str | None, usual: str = ",") -> Any:
    """Reads columns of a CSV file into an Arrow table of strings, without the spaces around values.

    Args:
        file: a path or URL.
        columns: names in the first line; or numbers from 0, of a file without such a line.
        delimiter: what separates values; None finds one for which the file has the columns.
        usual: the delimiter to try first.

    Raises:
        DataError: a column is missing, or a row has another number of values than the first line.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as arrow_csv

    delimiter, first, blank = _first_row(file, columns, [delimiter] if delimiter else [usual, *_DELIMITERS])
    named = isinstance(columns[0], str)
    numbers = {column: first.index(column) if isinstance(column, str) else column for column in columns}
    wrong: list[Any] = []

    def skip(row: Any) -> str:
        if row.text.strip(f" \t\r\n{delimiter}"):
            wrong.append(row)
        return "skip"

    names = [str(number) for number in range(len(first))]
    read = [names[number] for number in dict.fromkeys(numbers.values())]
    undecodable: list[Any] = []
    try:
        with open_manifest(file) as stream, _decode_errors(undecodable):
            table = arrow_csv.read_csv(
                stream,
                arrow_csv.ReadOptions(column_names=names),
                arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
                arrow_csv.ConvertOptions(include_columns=read, column_types={name: pa.string() for name in read}),
            )
    except pa.ArrowInvalid as error:
        raise not_utf8(file) or error from None
    unreadable = not_utf8(file) if undecodable else None
    if unreadable is not None:
        raise unreadable
    if wrong:
        raise _wrong_row(file, delimiter, len(first), named)
    values = {name: pc.utf8_trim_whitespace(table.column(name)) for name in read}
    if len(first) == 1:  # a line of spaces is a row then
        values = {name: column.filter(pc.not_equal(column, "")) for name, column in values.items()}
    null = pa.scalar(None, pa.string())
    values = {name: pc.if_else(pc.equal(column, ""), null, column) for name, column in values.items()}
    start = blank + 1 if named else blank
    return pa.table({str(column): values[names[number]][start:] for column, number in numbers.items()})


def first_names(file: str, column: str | int, delimiter: str | None, usual: str = ",") -> list[str]:
    """Returns the names in the first line of a CSV file; the numbers of its columns if `column` is a number.

    Args:
        file: a path or URL.
        column: one that the file has.
        delimiter: what separates values; None finds one for which the file has the column.
        usual: the delimiter to try first.
    """
    _, first, _ = _first_row(file, [column], [delimiter] if delimiter else [usual, *_DELIMITERS])
    return first if isinstance(column, str) else [str(number) for number in range(len(first))]


def first_value(file: str, column: str | int, delimiter: str | None, usual: str = ",") -> str | None:
    """Returns the first value in a column of a CSV file, of the rows at its beginning; None if it has none there.

    Args:
        file: a path or URL.
        column: name or number.
        delimiter: what separates values; None finds one for which the file has the column.
        usual: the delimiter to try first.
    """
    delimiter, first, _ = _first_row(file, [column], [delimiter] if delimiter else [usual, *_DELIMITERS])
    number = first.index(column) if isinstance(column, str) else column
    rows = csv.reader(io.StringIO(read_head(file), newline=""), delimiter=delimiter)
    with contextlib.suppress(csv.Error):  # the head may end in a value
        next((row for row in rows if isinstance(column, str) and any(cell.strip() for cell in row)), None)
        return next((row[number].strip() for row in rows if len(row) > number and row[number].strip()), None)
    return None


@contextlib.contextmanager
def _decode_errors(found: list[Any]) -> Iterator[None]:
    """Collects the errors of rows that Arrow cannot decode for the handler of wrong rows, and only prints."""
    usual = sys.unraisablehook

    def collect(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, UnicodeDecodeError):
            found.append(unraisable.exc_value)
        else:
            usual(unraisable)

    sys.unraisablehook = collect
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _first_row(file: str, columns: Sequence[str | int], delimiters: Sequence[str]) -> tuple[str, list[str], int]:
    """Returns the first delimiter with which a file has the columns, the values of its first row, and the rows before.

    Rows without a value, of as many columns (`,,`), are before the first row; others are passed over by Arrow.
    """
    head = read_head(file)
    rows = {delimiter: _row(file, head, delimiter) for delimiter in dict.fromkeys(delimiters)}
    if not any(row for row, _ in rows.values()):
        raise DataError(f"{shown(file)} is empty: it has no first line")
    for delimiter, (row, blank) in rows.items():
        if all(column in row if isinstance(column, str) else column < len(row) for column in columns):
            if isinstance(columns[0], str):
                check_names(file, columns, row, " in its first line")
            return delimiter, row, blank
    row, _ = rows[delimiters[0]]
    if isinstance(columns[0], str):
        check_names(file, columns, row, " in its first line")
    raise DataError(
        f"{shown(file)}, row 0: there are {len(row)} values, and the columns are {', '.join(map(str, columns))}, "
        f"counted from 0: correct path_column and label_column, or set delimiter"
    )


def _row(file: str, head: str, delimiter: str) -> tuple[list[str], int]:
    blank: list[int] = []  # numbers of values
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter):
            if any(cell.strip() for cell in row):
                return [cell.strip() for cell in row], blank.count(len(row)) if len(row) > 1 else 0
            blank.append(len(row))
        return [], 0
    except csv.Error as error:
        raise DataError(f"{shown(file)}: the first line cannot be read: {error}") from None


def _wrong_row(file: str, delimiter: str, expected: int, named: bool) -> DataError:
    """Returns the error that names the first row with another number of values than expected."""
    line = 1
    with open_lines(file) as lines:
        try:
            reader = csv.reader(lines, delimiter=delimiter)
            for row in reader:
                if len(row) != expected and any(cell.strip() for cell in row):
                    break
                line = reader.line_num + 1
        except csv.Error as error:
            return DataError(f"{shown(file)}, line {line}: {error}")
    values = delimiter.join(row)
    hint = (
        "a quote is not closed"
        if "\n" in values
        else f"put values with {delimiter!r} in them into double quotes"
        if len(row) > expected
        else "add what is missing"
    )
    return DataError(
        f"{shown(file)}, line {line}: {len(row)} values ({values[:60]!r}), where the first line has {expected}"
        f"{' names' if named else ''}: {hint}"
    )
