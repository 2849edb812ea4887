"""`ray-classy import`: what a project that was written for Classy Vision needs to run here."""

from __future__ import annotations

import argparse
import ast
import importlib
import io
import os
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.config import load_config
from ray_classy.config.check import Problem, problems_in
from ray_classy.config.document import Config, dotted, mark_of
from ray_classy.errors import ConfigError
from ray_classy.printable import printable, shell_word
from ray_classy.registry import nearest

_BEFORE, _NOW = "classy_vision", "ray_classy"
_WORD = re.compile(rf"\b{_BEFORE}\b")
_REGISTERED = re.compile(r"\bregister_\w+\(\s*['\"]([\w.-]+)['\"]")
_PASSED_OVER = {"__pycache__", "node_modules", "site-packages", "build", "dist"}
_RENAMED_TOKENS = {tokenize.NAME, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}  # the last since 3.12
_MOST_BYTES = 4 << 20  # of a file that is source code or a config
_MOST_FILES = 20_000


class _Line(NamedTuple):
    """A line to change (`after` is its new form), or to look at (`after` is None)."""

    number: int | None
    text: str
    after: str | None = None


def import_project(arguments: argparse.Namespace) -> Answer:
    """Lists file by file what would change and what to look at; with `--write`, changes the files.

    No code of the project is executed.

    Raises:
        UsageError: there is no such folder.
    """
    if len(arguments.words) != 1:
        raise UsageError("import takes one word, the folder of the project: ray-classy import my_project")
    folder = Path(arguments.words[0])
    if not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is no folder: give the folder of the project")
    files = list(_files(folder))
    sources = {file: text for file in files if file.suffix == ".py" and (text := _text(file)) is not None}
    registered = {file: _REGISTERED.findall(text) for file, text in sources.items() if _REGISTERED.search(text)}
    names = {name for components in registered.values() for name in components}
    found: dict[Path, list[_Line]] = {}
    for file in files:
        lines = _of_code(sources[file]) if file in sources else _of_other(file, names)
        if lines:
            found[file] = lines
    changed = [file for file, lines in found.items() if any(line.after is not None for line in lines)]
    if arguments.write:
        for file in changed:
            _rewrite(file, {line.number: line.after for line in found[file] if line.after is not None})
    return _answer(folder, found, changed, len(files), arguments.write, _train_command(folder, files, registered))


def _files(folder: Path) -> Iterator[Path]:
    """The project's files, without those of environments and version control, and without links."""
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _PASSED_OVER and not Path(place, name, "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            file = Path(place, name)
            if file.suffix in (".py", ".ipynb", ".json", ".yaml", ".yml", ".cfg", ".toml", ".txt", ".sh"):
                count += 1
                if count > _MOST_FILES:
                    raise UsageError(
                        f"{str(folder)!r} has more than {_MOST_FILES:,} files: give the project's own folder"
                    )
                if file.is_file() and not file.is_symlink():
                    yield file


def _text(file: Path) -> str | None:
    """The source of a file; None if it is none."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return None
        with tokenize.open(file) as opened:
            return opened.read()
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return None


# -- Python -----------------------------------------------------------------------------------------------------------


def _of_code(text: str) -> list[_Line]:
    if _BEFORE not in text:
        return []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        return [_Line(getattr(error, "lineno", None), f"cannot be read as Python: {error}; rename {_BEFORE} by hand")]
    renamed = list(io.StringIO(text))  # lines as Python counts them; splitlines() also ends one at a form feed
    before = list(renamed)
    for token in reversed(tokens):  # from the end, so that columns stay
        if token.type in _RENAMED_TOKENS and _WORD.search(token.string) and "\n" not in token.string:
            row, (start, end) = token.start[0] - 1, (token.start[1], token.end[1])
            renamed[row] = renamed[row][:start] + _WORD.sub(_NOW, renamed[row][start:end]) + renamed[row][end:]
    lines = [
        _Line(number, old.strip(), new)
        for number, (old, new) in enumerate(zip(before, renamed, strict=True), 1)
        if old != new
    ]
    return sorted([*lines, *_missing(tree)], key=lambda line: line.number or 0)


def _missing(tree: ast.AST) -> Iterator[_Line]:
    """What a module imports from Classy Vision that is not here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _WORD.match(alias.name) and _module(alias.name) is None:
                    yield _Line(node.lineno, f"there is no module {_WORD.sub(_NOW, alias.name)}")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and _WORD.match(node.module or ""):
            name = _WORD.sub(_NOW, node.module or "")
            module = _module(node.module or "")
            if module is None:
                yield _Line(node.lineno, f"there is no module {name}")
                continue
            for alias in node.names:
                if alias.name != "*" and not hasattr(module, alias.name) and _module(f"{name}.{alias.name}") is None:
                    near = nearest(alias.name, dir(module))
                    yield _Line(
                        node.lineno, f"{name} has no {alias.name}" + (f": did you mean {near}?" if near else "")
                    )


def _module(name: str) -> Any:
    """The module here that has the place of one of Classy Vision's; None if there is none, or an extra is missing."""
    try:
        return importlib.import_module(_WORD.sub(_NOW, name))
    except ImportError:
        return None


# -- configs and others -----------------------------------------------------------------------------------------------


def _of_other(file: Path, registered: set[str]) -> list[_Line]:
    text = _text(file)
    if text is None:
        return []
    lines = [
        _Line(number, f"names {_BEFORE}: {line.strip()[:100]}")
        for number, line in enumerate(text.splitlines(), 1)
        if _WORD.search(line)
    ]
    if file.suffix in (".json", ".yaml", ".yml"):
        lines += _of_config(file, registered)
    return lines


def _of_config(file: Path, registered: set[str]) -> list[_Line]:
    from ray_classy.tasks import TASK_REGISTRY
    from ray_classy.tasks.task_config import RESERVED

    config = _task_config(file)
    if config is None:
        return []
    own = {path for path in _named(config) if isinstance(name := _at(config, path), str) and name in registered}
    if ("name",) in own:
        return []
    problems = problems_in(config, TASK_REGISTRY, sections=RESERVED)
    return [
        _Line(mark_of(config, one.path).line, f"{dotted(one.path)}: {one.message}" if one.path else one.message)
        for one in problems
        if not _is_of_own(one, own)
    ]


def _task_config(file: Path) -> Config | None:
    """The config of a task in a file; None if it is JSON or YAML of another kind."""
    try:
        config = load_config(str(file))
    except ConfigError:
        return None
    return config if isinstance(config, Mapping) and {"dataset", "model"} <= config.keys() else None


def _named(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all names of components, and of keys that may be such a name (of meters)."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        if step == "name" or path == ("meters",):
            yield (*path, step)
        yield from _named(inner, (*path, step))


def _at(config: Any, path: tuple[Any, ...]) -> Any:
    if path[:-1] == ("meters",):
        return path[-1]
    for step in path:
        config = config[step]
    return config


def _is_of_own(problem: Problem, own: set[tuple[Any, ...]]) -> bool:
    """Whether a problem is that a component is unknown which the project registers, or lies in the config of one."""
    sections = [path if path[:-1] == ("meters",) else path[:-1] for path in own]
    return problem.path in own or any(problem.path[: len(section)] == section for section in sections)


# -- the answer -------------------------------------------------------------------------------------------------------


def _train_command(folder: Path, files: Iterable[Path], registered: Iterable[Path]) -> str | None:
    """The command that trains a config of the project with its components; None if it registers none."""
    modules = sorted({file.relative_to(folder).parts[0].removesuffix(".py") for file in registered})
    modules = [name for name in modules if name.isidentifier()]
    if not modules:
        return None
    config = next(
        (file for file in files if file.suffix in (".json", ".yaml", ".yml") and _task_config(file) is not None),
        "CONFIG",
    )
    imports = f"imports=[{','.join(modules)}]"
    return f"ray-classy train {shell_word(str(config))} --code {shell_word(str(folder))} {shell_word(imports)}"


def _rewrite(file: Path, lines: dict[int | None, str]) -> None:
    """Replaces lines of a file, which keeps its encoding, line ends and mode."""
    with tokenize.open(file) as opened:
        encoding = opened.encoding
    with open(file, encoding=encoding, newline="") as read:
        before = list(io.StringIO(read.read(), newline=""))
    after = []
    for number, line in enumerate(before, 1):
        end = line[len(line.rstrip("\r\n")) :]
        after.append(lines[number].rstrip("\r\n") + end if number in lines else line)
    half = file.with_name(f"{file.name}.half")
    with open(half, "x", encoding=encoding, newline="") as written:
        written.write("".join(after))
    os.chmod(half, file.stat().st_mode)
    os.replace(half, file)


def _answer(
    folder: Path, found: dict[Path, list[_Line]], changed: list[Path], files: int, written: bool, command: str | None
) -> Answer:
    text: list[str] = []
    for file, lines in found.items():
        text.append(printable(str(file)))
        for line in lines:
            place = "  " if line.number is None else f"  {line.number}: "
            text.append(place + (line.text if line.after is None else f"{line.text}  ->  {line.after.strip()}"))
    left = sum(line.after is None for lines in found.values() for line in lines)
    if written:
        text.append(f"changed {len(changed)} of {files} files")
    elif changed:
        text.append(f"{len(changed)} of {files} files would be changed; nothing was written: add --write to do so")
    else:
        text.append(f"none of {files} files needs the import renamed")
    if left:
        text.append(f"{left} {'line is' if left == 1 else 'lines are'} for you to look at (docs/migrating.md)")
    if command is not None:
        text.append(f"its components are registered by the modules of `imports`; train with them:\n  {command}")
    data = {
        "project": str(folder),
        "written": written,
        "command": command,
        "files": {
            str(file): [{"line": line.number, "text": line.text, "after": line.after} for line in lines]
            for file, lines in found.items()
        },
    }
    return Answer("\n".join(text), data)
