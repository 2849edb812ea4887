"""Reads a config file."""

from __future__ import annotations

import difflib
import os
import pathlib
from collections.abc import Callable
from typing import Any

from ray_classy.config.document import Config, Mark, Path
from ray_classy.config.json_text import parse_json
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.errors import ConfigError

_PARSERS: dict[str, Callable[[str, str], tuple[Any, dict[Path, Mark]]]] = {
    ".json": parse_json,
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
}


def load_config(path: str | os.PathLike[str]) -> Config:
    """Reads one JSON or YAML file; the same document gives the same values in both.

    Args:
        path: a file whose name ends in .json, .yaml or .yml.

    Raises:
        ConfigError: there is no such file, or it cannot be read as a config; the message has file and line.
    """
    file = os.fspath(path)
    suffix = pathlib.Path(file).suffix.lower()
    if suffix not in _PARSERS:
        raise ConfigError(f"{file}: a config file ends in .json, .yaml or .yml, not {suffix or 'without a suffix'!r}")
    try:
        text = pathlib.Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file{_near_files(pathlib.Path(file))}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    values, marks = _PARSERS[suffix](text, file)
    if values is None and not text.strip(" \t\r\n"):
        raise ConfigError(f"{file}:1: the file is empty; a config is a mapping that begins with `name:`")
    if not isinstance(values, dict):
        kind = {list: "a list", str: "text", type(None): "empty"}.get(type(values), f"{values!r}")
        raise ConfigError(f"{marks.get((), Mark(file, 1))}: a config is a mapping from keys to values, this is {kind}")
    return Config(values, file, marks)


def _near_files(path: pathlib.Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {str(folder)!r} either"
    configs = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in _PARSERS)
    near = difflib.get_close_matches(path.name, configs, n=3, cutoff=0.5)
    near += [name for name in configs if pathlib.Path(name).stem == path.stem and name not in near]
    if near:
        return f"; did you mean {' or '.join(repr(str(folder / name)) for name in near)}?"
    return f"; config files there: {', '.join(configs[:8])}" if configs else f"; no config file is in {str(folder)!r}"
