"""Reads a config from a file, a URL or standard input."""

from __future__ import annotations

import difflib
import functools
import os
import pathlib
import stat
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from ray_classy.config.code import is_run
from ray_classy.config.document import Config, Mark, Path, mark_of
from ray_classy.config.json_text import parse_json
from ray_classy.config.recipe_files import PREFIX, recipe_file
from ray_classy.config.text import check_text
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.errors import ConfigError, DataError
from ray_classy.printable import shell_word
from ray_classy.storage import Storage
from ray_classy.urls import expanded, is_url, located, reason, shown, split_query

STDIN = "-"
"""The path that means standard input."""
_MOST_BYTES = 64 * 2**20
"""Size of the largest config: one with a million class names fits."""
_PARSERS: dict[str, Callable[[str, str], tuple[Any, dict[Path, Mark]]]] = {
    ".json": parse_json,
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
}


def load_config(path: str | os.PathLike[str]) -> Config:
    """Reads one JSON or YAML document; the same document gives the same values in both.

    Args:
        path: a path or URL that ends in .json, .yaml or .yml; `recipe:NAME` is a config that comes with the package,
            and "-" is standard input.

    Returns:
        The document without its top-level keys that begin with `x-`, which are there for anchors.

    Raises:
        ConfigError: there is no such file, or it cannot be read as a config; the message has file and line.
    """
    given = expanded(path)
    name = "<stdin>" if given == STDIN else shown(given)
    file = str(recipe_file(given)) if given.startswith(PREFIX) else given
    suffix = pathlib.PurePath(split_query(file)[0]).suffix.lower()
    if file != STDIN and suffix not in _PARSERS:
        kind = f"this name ends in {suffix!r}" if suffix else "this name has no such ending"
        raise ConfigError(f"{name}: the name of a config file ends in .json, .yaml or .yml, and {kind}{_instead(file)}")
    try:
        data = _read_stdin() if file == STDIN else _read_url(file) if is_url(file) else _read_file(file)
        if len(data) > _MOST_BYTES:
            raise ConfigError(f"{name}: a config has at most {_MOST_BYTES // 2**20} MiB, and this file has more")
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        near = "" if is_url(file) else _near_files(pathlib.Path(file))
        raise ConfigError(f"{name}: there is no such file{near}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or reason(error)}") from None
    values, marks = _parser(file, suffix, text)(text, name)
    if values is None and not text.strip(" \t\r\n"):
        raise ConfigError(f"{name}:1: the file is empty; a config is a mapping that begins with `name:`")
    if not isinstance(values, dict):
        kind = {list: "a list", str: "text", type(None): "empty"}.get(type(values), f"{values!r}")
        raise ConfigError(f"{marks.get((), Mark(name, 1))}: a config is a mapping from keys to values, this is {kind}")
    config = Config(values, given if given != STDIN else name, marks)
    for key in [key for key in config if key.startswith("x-")]:
        del config[key]
    check_text(config, functools.partial(mark_of, config))
    return config


def _parser(file: str, suffix: str, text: str) -> Callable[[str, str], tuple[Any, dict[Path, Mark]]]:
    if file != STDIN:
        return _PARSERS[suffix]
    try:
        parse_json(text, file)
        return parse_json
    except ConfigError:
        return parse_yaml


def _read_file(file: str) -> bytes:
    with open(file, "rb", opener=_open_without_waiting) as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{file}: it is not a regular file; to read a config from a pipe: -")
        return stream.read(_MOST_BYTES + 1)


def _open_without_waiting(file: str, flags: int) -> int:
    if os.path.isdir(file):
        raise ConfigError(f"{file}: it is a folder; give a file")
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer


def _read_url(url: str) -> bytes:
    try:
        filesystem, inside = located(url)
        with filesystem.open_input_stream(inside) as stream:
            return stream.read(_MOST_BYTES + 1)
    except DataError as error:
        raise ConfigError(str(error)) from None


def _read_stdin() -> bytes:
    stream: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise ConfigError("standard input gives no config: pipe one into the command, or give a file in place of `-`")
    return stream.read(_MOST_BYTES + 1)


def _instead(file: str) -> str:
    """The end of a message about a name that no config file has: what may be meant."""
    path = pathlib.Path(file)
    if is_url(file) or path.is_file():
        return ""
    if not path.is_dir():
        near = _near_files(path)
        return near if not path.suffix or "did you mean" in near else ""
    if is_run(Storage(file)):
        return f"; it is the folder of a run: to resume it, give --resume {shell_word(file)}"
    configs = _configs_in(path)
    return f"; it is a folder, with the configs {', '.join(configs[:8])}" if configs else "; it is a folder"


def _configs_in(folder: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in _PARSERS)


def _near_files(path: pathlib.Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {str(folder)!r} either"
    configs = _configs_in(folder)
    near = difflib.get_close_matches(path.name, configs, n=3, cutoff=0.5)
    near += [name for name in configs if pathlib.Path(name).stem == path.stem and name not in near]
    if near:
        return f"; did you mean {' or '.join(repr(str(folder / name)) for name in near)}?"
    return f"; config files there: {', '.join(configs[:8])}" if configs else f"; no config file is in {str(folder)!r}"
