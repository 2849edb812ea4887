"""The user's own modules: which they are, and how they are found without getting in the way of any other module.

A folder with a config may hold a file of any name: `queue.py`, `olefile.py`, `torch.py`. Were the folder on `sys.path`,
the standard library or an optional import of an installed package would find them there. So a folder is searched after
everything else, and only for the names that are asked for: those under `imports`, and what these modules import from
beside them.
"""

from __future__ import annotations

import ast
import collections
import functools
import importlib
import importlib.util
import itertools
import json
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, NamedTuple

SEARCH_VARIABLE = "RAY_CLASSY_USER_CODE"
"""Tells the workers of a local Ray where the driver finds the user's modules: a `Search` as JSON."""
SHIPPED_FOLDER = "_shipped_code"
"""The folder in this package in which the user's modules are shipped to other machines."""

_MOST_SEEN, _MOST_IN_FOLDER = 100_000, 10_000
_MOST_LEVELS_WITHOUT = 2
_IMPORTERS = ("import_module", "__import__")


class UserCode(MetaPathFinder):
    """Finds top-level modules by name in one folder; it is the last finder of `sys.meta_path`.

    Args:
        folder: that is searched.
        names: of modules and packages in it; no other is found.
    """

    def __init__(self, folder: str, names: Iterable[str]) -> None:
        self.folder = folder
        self.names = set(names)

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Returns the spec of a module of that name; modules within packages are found by Python itself."""
        if path is not None or fullname not in self.names:
            return None
        return PathFinder.find_spec(fullname, [self.folder])


def add_user_code(folder: str, names: Iterable[str]) -> None:
    """Lets `import` find these modules of a folder, after everything else."""
    names = set(names)
    if not names:
        return
    known = next((finder for finder in user_code() if finder.folder == folder), None)
    if known is not None:
        known.names |= names
    else:
        sys.meta_path.append(UserCode(folder, names))
    importlib.invalidate_caches()


def user_code() -> list[UserCode]:
    """The folders that were added, in the order of the search."""
    return [finder for finder in sys.meta_path if isinstance(finder, UserCode)]


class Search(NamedTuple):
    """Where a process finds the user's modules.

    Attributes:
        path: the user's folders on `sys.path`.
        code: folders with the names of the modules that are found in them after everything else.
    """

    path: Sequence[str]
    code: Sequence[tuple[str, Sequence[str]]]

    @classmethod
    def here(cls) -> Search:
        """Where this process finds them."""
        return cls(own_folders(), [(finder.folder, sorted(finder.names)) for finder in user_code()])

    def extend(self) -> None:
        """Lets this process find them too, after everything that it finds already."""
        sys.path.extend(folder for folder in self.path if folder not in sys.path)
        for folder, names in self.code:
            add_user_code(folder, names)


def set_up_worker() -> None:
    """Lets a worker process find the user's modules; each calls it when it starts, before anything is unpickled."""
    shipped = os.path.join(os.path.dirname(os.path.abspath(__file__)), SHIPPED_FOLDER)
    if os.path.isdir(shipped):
        add_user_code(shipped, {name.partition(".")[0] for name in os.listdir(shipped)})
    Search(*json.loads(os.environ.get(SEARCH_VARIABLE, "[[], []]"))).extend()


SETUP_FUNCTION = f"{set_up_worker.__module__}.{set_up_worker.__name__}"
"""How Ray's setting names the function that each worker calls."""


def reached(names: Iterable[str], locate: Callable[[str], str | None]) -> dict[str, str]:
    """The top-level modules that are reached from some names by import statements.

    Args:
        names: dotted names of modules.
        locate: returns the file or folder of the top-level module of a dotted name, or None if it is not the user's.

    Returns:
        The file or folder of each, by name.
    """
    found: dict[str, str] = {}
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or top in found:
            continue
        seen.add(name)
        place = locate(name)
        if place is not None:
            found[top] = place
            for source in sources(place):
                waiting += imported_by(source)
    return dict(sorted(found.items()))


def beside(folder: str, name: str) -> str | None:
    """The file or folder in a folder that an import of a dotted name means; None if there is none.

    A folder without `__init__.py` counts only where the name leads to a module in it: it may hold data as well.
    """
    top, *rest = name.split(".")
    if not top.isidentifier():
        return None
    package = os.path.join(folder, top)
    if os.path.isfile(os.path.join(package, "__init__.py")):
        return package
    if os.path.isfile(f"{package}.py"):
        return f"{package}.py"
    inner = os.path.join(package, *rest)
    if rest and (os.path.isfile(f"{inner}.py") or os.path.isfile(os.path.join(inner, "__init__.py"))):
        return package
    return beside(folder, name.rpartition(".")[0]) if len(rest) > 1 else None


def sources(place: str) -> Iterator[str]:
    """The Python files of a module or package; links to folders are not followed.

    A package may hold a dataset too. So folders are not entered whose names no import can have, nor those that are more
    than two levels below a Python file, and the number of files that are looked at has a limit.
    """
    if not os.path.isdir(place):
        yield place
        return
    waiting, seen = collections.deque([(place, 0)]), 0
    while waiting and seen < _MOST_SEEN:
        folder, levels_without = waiting.popleft()
        entries = _entries(folder)
        seen += len(entries)
        files = [entry.path for entry in entries if entry.name.endswith(".py")]
        yield from files
        levels_without = 0 if files or folder == place else levels_without + 1
        if levels_without < _MOST_LEVELS_WITHOUT:
            waiting += [
                (entry.path, levels_without)
                for entry in entries
                if entry.name.isidentifier() and not skipped(entry.name) and entry.is_dir(follow_symlinks=False)
            ]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """The first files and folders in a folder, by name."""
    try:
        with os.scandir(folder) as found:
            return sorted(itertools.islice(found, _MOST_IN_FOLDER), key=lambda entry: entry.name)
    except OSError:
        return []


def skipped(name: str) -> bool:
    """Whether a file or folder of that name is no part of a package: hidden, or made by tools."""
    return name.startswith(".") or name in ("__pycache__", "node_modules")


def imported_by(source: str, package: str = "") -> list[str]:
    """The dotted names that a Python file imports anywhere; of relative ones, with the package that it is in."""
    names = []
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.level == 0 or package):
            inner = package.split(".")
            start = inner[: len(inner) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names if alias.name != "*")]
        elif isinstance(node, ast.Call) and _name(node.func) in _IMPORTERS and node.args:
            value = getattr(node.args[0], "value", None)
            names += [value] if isinstance(value, str) and not value.startswith(".") else []
    return [name for name in dict.fromkeys(names) if name]


def texts_in(source: str) -> set[str]:
    """The short strings of a Python file, among which are the names of the files that it reads."""
    nodes = ast.walk(_tree(source))
    found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in found if 0 < len(text) < 256}


@functools.lru_cache(maxsize=1024)
def _parsed(source: str, modified: float) -> ast.AST:
    try:
        with open(source, "rb") as file:
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])  # Python says what is wrong when it imports the file


def _tree(source: str) -> ast.AST:
    try:
        status = os.stat(source)
    except OSError:
        return ast.Module([], [])
    return _parsed(source, status.st_mtime)


def _name(function: ast.expr) -> str:
    return str(getattr(function, "attr", None) or getattr(function, "id", ""))


def is_standard(name: str) -> bool:
    """Whether a dotted name is that of a module in Python's standard library."""
    return name.partition(".")[0] in sys.stdlib_module_names


def is_installed(path: str) -> bool:
    """Whether a file or folder is part of the Python installation, or of a package installed in it."""
    return os.path.join(os.path.abspath(path), "").startswith(_installation()) or bool(
        {"site-packages", "dist-packages"}.intersection(os.path.abspath(path).split(os.sep))
    )


@functools.cache
def _installation() -> tuple[str, ...]:
    """The folders of the standard library and of packages; a project may lie below the prefix, such as `/usr`."""
    paths = sysconfig.get_paths()
    folders = {*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), site.getusersitepackages()}
    return tuple(os.path.join(folder, "") for folder in folders)


def own_folders() -> list[str]:
    """The folders of `sys.path` that hold the user's modules, not Python's or installed ones."""
    folders = [os.path.abspath(folder or os.getcwd()) for folder in sys.path]
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder) and not is_installed(folder)]


def place_of(name: str) -> str | None:
    """The file or folder from which an import of a top-level module takes it; None if it is not found, or built in."""
    try:
        return place_in(importlib.util.find_spec(name))
    except (ImportError, ValueError, AttributeError):
        return None


def place_in(spec: ModuleSpec | None) -> str | None:
    """The file or folder of a top-level module; None if there is none, also no longer, or it is built in."""
    if spec is None:
        return None
    if spec.submodule_search_locations:
        place = next(iter(spec.submodule_search_locations))
    else:
        place = (spec.origin if spec.has_location else None) or ""
    return os.path.abspath(place) if os.path.exists(place) else None


def user_module(folder: str, name: str) -> str | None:
    """The file or folder of a module of the user's in a folder; None if no such module is there, or another is first.

    Args:
        folder: that is searched last.
        name: dotted, of the module.
    """
    place = None if is_standard(name) else beside(folder, name)
    return place if place is None or place_of(name.partition(".")[0]) in (None, place) else None
