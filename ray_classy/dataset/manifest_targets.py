"""Reads the columns of labels of manifests, for several labels in a row and for several targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_classy.dataset.list_texts import list_of_text
from ray_classy.dataset.manifest_csv import check_delimiter, first_names, first_value, read_csv
from ray_classy.dataset.manifest_file import extension_of, kind_of
from ray_classy.dataset.manifest_json import first_row, read_json_labels
from ray_classy.dataset.manifest_text import check_is_file
from ray_classy.dataset.multi_label import is_list
from ray_classy.dataset.parquet_columns import parquet_names, read_parquet_labels
from ray_classy.dataset.target_options import TargetOptions
from ray_classy.dataset.target_reading import LabelTable
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import reason, shown


def holds_lists(file: str, column: str | int, delimiter: str | None) -> bool:
    """Whether a column of a manifest holds lists; in CSV, texts such as `['cat', 'dog']`.

    A file that cannot be read has none: whoever reads the paths says what is wrong with it.
    """
    try:
        check_is_file(file)
        extension = extension_of(file, delimiter)
        kind = kind_of(extension)
        if kind == "csv":
            usual = "\t" if extension == ".tsv" else ","
            return list_of_text(first_value(file, column, check_delimiter(delimiter), usual)) is not None
        if kind == "json":
            return isinstance((first_row(file) or {}).get(str(column)), list)
        return kind == "parquet" and is_list(parquet_names(file).get(str(column)))
    except (ComponentError, DataError, OSError, UnicodeDecodeError):
        return False


def read_label_table(
    file: str, options: Mapping[str, TargetOptions], path_column: str | int, delimiter: str | None
) -> LabelTable:
    """Reads the columns that the options of targets name.

    Args:
        file: path or URL of a manifest, which has been opened before.
        options: of the targets.
        path_column: which globs leave out.
        delimiter: of CSV; None finds it.

    Raises:
        DataError: the file does not have a column, or cannot be read.
    """
    import pyarrow as pa

    extension = extension_of(file, delimiter)
    kind = kind_of(extension)
    usual = "\t" if extension == ".tsv" else ","
    try:
        if kind == "csv":
            character = check_delimiter(delimiter)
            there: Sequence[str] = first_names(file, path_column, character, usual)
            wanted = _wanted(options, there, file, path_column)
            gone = next((name for name in wanted if isinstance(name, str) and name not in there), None)
            if gone is not None:
                raise DataError(f"{shown(file)} has no column {gone!r} of labels: it has {', '.join(there)}")
            return LabelTable(shown(file), read_csv(file, wanted, character, usual), {}, is_text=True)
        if kind == "json":
            wanted = _wanted(options, list(first_row(file) or {}), file, path_column)
            return LabelTable(shown(file), read_json_labels(file, wanted), {})
        return read_parquet_labels(file, _wanted(options, list(parquet_names(file)), file, path_column))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(file)} cannot be read: {reason(error)}") from error


def _wanted(options: Mapping[str, TargetOptions], there: Sequence[str], file: str, path_column: str | int) -> list[Any]:
    found = [name for one in options.values() for name in one.columns_among(there, shown(file), [path_column])]
    return list(dict.fromkeys(found))
