"""`ray-classy new`: a small project with components of the user's own."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import os
import re
import sys
from pathlib import Path

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, command_line
from ray_classy.printable import shell_word

_TEMPLATE = Path(__file__).parent.parent / "template"
_PACKAGE = "my_project"
"""The name of the template's package, which becomes that of the project."""


def new(arguments: argparse.Namespace) -> Answer:
    """Makes the folder of a project: a config, a package with a component of each kind, and a test that trains.

    Raises:
        UsageError: there is no folder's name, or the folder exists.
    """
    if len(arguments.words) != 1:
        raise UsageError("new takes one word, the folder of the project: ray-classy new my_project")
    folder = Path(arguments.words[0])
    package = _package_name(folder)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{str(folder)!r} exists already: give another name, or remove it") from None
    files = [file for file in sorted(_TEMPLATE.rglob("*")) if file.is_file() and file.suffix != ".pyc"]
    names = []
    for file in files:
        name = str(file.relative_to(_TEMPLATE)).replace(_PACKAGE, package)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(file.read_text(encoding="utf-8").replace(_PACKAGE, package), encoding="utf-8")
        names.append(name)
    text = [f"made {folder}:", *(f"  {name}" for name in names), "train it, and test it:"]
    text.append(f"  {command_line('train', os.path.join(folder, 'config.yaml'), '--local')}")
    text.append(f"  python -m pytest {shell_word(str(folder))}")
    return Answer("\n".join(text), {"project": str(folder), "files": names})


def _package_name(folder: Path) -> str:
    """Returns the name of the project's package: the folder's, with underscores."""
    name = re.sub(r"[-. ]", "_", folder.absolute().name)
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise UsageError(f"{folder.name!r} cannot name a Python package: use letters, digits and underscores")
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        raise UsageError(f"there is a Python package {name!r} already, which would be imported instead: rename yours")
    return name
