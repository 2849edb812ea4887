"""Which code is sent to nodes that lack it: this package, and the modules that the config and the script name."""

from __future__ import annotations

import contextlib
import functools
import heapq
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from typing import NamedTuple

import ray_classy
from ray_classy.config.code import is_run
from ray_classy.errors import ShippingError
from ray_classy.storage import Storage
from ray_classy.user_code import (
    SHIPPED_FOLDER,
    beside,
    imported_by,
    is_installed,
    is_standard,
    own_folders,
    place_in,
    place_of,
    reached,
    skipped,
    sources,
    texts_in,
    user_code,
)

MOST_BYTES = 20 << 20
"""Of the user's code; what is larger is data, which belongs where all nodes see it."""
_MOST_FILES = 10_000
_NAMED = 3
_SECRET = re.compile(
    r"credentials?\b.*|secrets?\b.*|passwords?\b.*|(.*[_-])?token(\.\w+)?|id_(rsa|dsa|ecdsa|ed25519)\b.*"
    r"|.*\.(pem|key|p12|pfx|jks|kdbx|keytab)",
    re.IGNORECASE,
)


class CodeFile(NamedTuple):
    """A file that is sent.

    Attributes:
        name: relative to the folder that workers search, with slashes.
        source: where it is now.
        size: in bytes.
    """

    name: str
    source: str
    size: int


class UsersModules(NamedTuple):
    """The modules of the user's that the config and the script name, with what these import.

    Attributes:
        places: the file or folder of each top-level module, by its name.
        files: that are sent.
        left_out: files and folders within the modules' that are not sent, with the reason.
    """

    places: dict[str, str]
    files: list[CodeFile]
    left_out: dict[str, str]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    def check(self) -> None:
        """Refuses more than can be sent.

        Raises:
            ShippingError: it names the largest files.
        """
        if self.size <= MOST_BYTES and len(self.files) <= _MOST_FILES:
            return
        largest = heapq.nlargest(_NAMED, self.files, key=lambda file: file.size)
        names = ", ".join(f"{file.source} ({file.size / (1 << 20):.1f} MiB)" for file in largest)
        much = f"{len(self.files):,} files" if len(self.files) > _MOST_FILES else f"{self.size / (1 << 20):.1f} MiB"
        raise ShippingError(
            f"the modules {', '.join(self.places)} have {much} or more, and at most {MOST_BYTES >> 20} MiB in "
            f"{_MOST_FILES:,} files are sent to the nodes of a cluster; the largest: {names}. Move data out of the "
            f"modules' folders, to where all nodes see it"
        )


def users_modules(local: bool = False) -> UsersModules:
    """Finds the modules that are sent, and their files.

    Args:
        local: check the names for the workers of a local Ray, which search the driver's folders.

    Raises:
        ShippingError: a module has the name of another one, which workers would import instead.
    """
    found = UsersModules(places_on_local_workers() if local else _places(_installed_folders()), [], {})
    texts: list[CodeFile] = []
    for name, place in found.places.items():
        if os.path.isdir(place):
            _add_package(found, name, place)
        else:
            found.files.append(CodeFile(os.path.basename(place), place, os.path.getsize(place)))
            texts += _data_beside(place)
    size = found.size
    for file in sorted(set(texts), key=lambda file: (file.size, file.name)):
        size += file.size
        if size > MOST_BYTES:
            found.left_out[file.source] = "too large"
        else:
            found.files.append(file)
    return found


def places_on_local_workers() -> dict[str, str]:
    """The file or folder of each of the user's top-level modules, all of which the workers of a local Ray import too.

    Raises:
        ShippingError: a module has the name of another one, which workers would import instead.
    """
    inherited = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return _places([*inherited, *_installed_folders(), *own_folders()])


def _installed_folders() -> list[str]:
    return [folder for folder in sys.path if folder and is_installed(folder)]


def _places(searched: Sequence[str]) -> dict[str, str]:
    """The places of the user's modules, if workers that search these folders import no others."""
    found_beside = {name: place_of(name) for finder in user_code() for name in finder.names}
    places = {name: place for name, place in found_beside.items() if place is not None and not is_installed(place)}
    places.update(reached([*places, *_named_by_main()], functools.partial(_users, searched)))
    return dict(sorted(places.items()))


def _users(searched: Sequence[str], name: str) -> str | None:
    """The place of a top-level module, if it is the user's."""
    top = name.partition(".")[0]
    place = place_of(top)
    if place is None or top == ray_classy.__name__ or is_installed(place):
        return None
    if os.path.isdir(place) and beside(os.path.dirname(place), name) is None:
        return None  # a folder without modules, such as one of data
    found = PathFinder.find_spec(top, searched)
    others = [place_in(found), *(found.submodule_search_locations or ())] if found is not None else [place]
    if is_standard(top) or place not in others:
        other = "a module of Python's standard library" if is_standard(top) else "an installed package"
        raise ShippingError(f"{place} has the name of {other}, which workers import instead: rename yours")
    return place


def _named_by_main() -> list[str]:
    """The modules that the script imports; without one, as in a notebook, those that its variables come from."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is not None:
        return imported_by(script, getattr(main, "__package__", None) or "")
    values = list(vars(main).values())
    names = [getattr(value, "__module__", None) or getattr(value, "__name__", None) for value in values]
    return [name for name in names if isinstance(name, str) and name != "__main__"]


def _add_package(found: UsersModules, name: str, place: str) -> None:
    """Adds the files of a package: its modules, and the data among them."""
    named = {part for source in sources(place) for text in imported_by(source, name) for part in text.split(".")}
    root, size = os.path.realpath(place), found.size
    for folder, folders, files in os.walk(place):
        for each in list(folders):
            path = os.path.join(folder, each)
            if skipped(each) or is_run(Storage(path)):
                folders.remove(each)
            elif os.path.islink(path):
                folders.remove(each)
                found.left_out[path] = "a link to a folder"
        folders.sort()
        for each in sorted(files):
            path = os.path.join(folder, each)
            reason = None if skipped(each) else _reason_against(path, root, named)
            if reason is not None:
                found.left_out[path] = reason
            elif not skipped(each):
                inner = os.path.relpath(path, place).replace(os.sep, "/")
                found.files.append(CodeFile(f"{name}/{inner}", path, os.path.getsize(path)))
                size += found.files[-1].size
        if size > 2 * MOST_BYTES or len(found.files) > 2 * _MOST_FILES:
            return  # more than is sent anyway


def _reason_against(path: str, root: str, named: set[str]) -> str | None:
    """Why a file is not sent; None if it is."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "not a file"
    except OSError:
        return "cannot be read"
    if os.path.islink(path) and not os.path.realpath(path).startswith(os.path.join(root, "")):
        return "a link out of the package"
    stem, extension = os.path.splitext(os.path.basename(path))
    if _SECRET.fullmatch(os.path.basename(path)) and not (extension == ".py" and stem in named):
        return "it may hold secrets, and no module imports it"
    return None


def _data_beside(module: str) -> Iterator[CodeFile]:
    """The files beside a module of which it has the name as a text."""
    folder = os.path.realpath(os.path.dirname(module))
    for text in texts_in(module):
        path = os.path.normpath(os.path.join(folder, text)) if "\0" not in text else folder
        name = os.path.relpath(path, folder)
        if os.path.isabs(text) or name.startswith(("..", ".")) or any(map(skipped, name.split(os.sep))):
            continue
        inside = os.path.realpath(path).startswith(os.path.join(folder, ""))  # a ConfigMap's files are links in it
        data = os.path.isfile(path) and inside and not path.endswith(".py")
        if data and _reason_against(path, folder, set()) is None:
            yield CodeFile(name.replace(os.sep, "/"), path, os.path.getsize(path))


@contextlib.contextmanager
def staged_code() -> Iterator[str]:
    """A copy of this package with the user's modules in it, for nodes that lack them; for Ray's `py_modules`.

    Raises:
        ShippingError: the modules are too large, or one has the name of another.
    """
    modules = users_modules()
    modules.check()
    with tempfile.TemporaryDirectory(prefix="ray_classy_code_") as folder:
        staged = os.path.join(folder, ray_classy.__name__)
        package = os.path.dirname(os.path.abspath(ray_classy.__file__))
        shutil.copytree(package, staged, ignore=shutil.ignore_patterns("__pycache__", SHIPPED_FOLDER))
        for file in modules.files:
            target = os.path.join(staged, SHIPPED_FOLDER, file.name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(file.source, target)
        yield staged
