"""Imports the user's modules that a config names, before anything is built."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from ray_classy.config.check import Problem, raise_problems
from ray_classy.config.code import HINT, code_folder
from ray_classy.user_code import add_user_code, beside, is_installed, is_standard, place_of, reached, user_module


def import_modules(config: Mapping[str, Any]) -> None:
    """Imports the modules named under `imports`.

    They are looked for on `sys.path`, then in the folder of the config file, unless it is the folder of a run.

    Raises:
        ConfigError: a module cannot be imported, or another one has its name; the message says why.
    """
    imports = config.get("imports") or []
    names = list(enumerate(imports)) if isinstance(imports, list) else []
    folder = code_folder(config)
    problems = []
    if folder:
        taken = {index: text for index, name in names if (text := _taken(folder, str(name)))}
        problems = [Problem(("imports", index), text) for index, text in taken.items()]
        names = [(index, name) for index, name in names if index not in taken]
        add_user_code(folder, reached((str(name) for _, name in names), functools.partial(user_module, folder)))
    for index, name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            looked = f"and in {folder}; `--code DIR` names another folder" if folder else f"alone: {HINT}"
            if not folder and getattr(config, "file", None):
                looked = f"alone, since no code is taken from the folder of a run: {HINT}"
            text = f"cannot import {name!r}: {type(error).__name__}: {error} (looked on sys.path {looked})"
            problems.append(Problem(("imports", index), text))
    raise_problems(problems, config)


def _taken(folder: str, name: str) -> str | None:
    """Says why a module beside the config cannot be imported by its name, if another module has it."""
    place = beside(folder, name)
    if place is None or user_module(folder, name) is not None:
        return None
    top = name.partition(".")[0]
    if is_standard(name):
        other = "a module of Python's standard library"
    else:
        found = place_of(top)
        if found is None or not is_installed(found):
            return None
        other = f"an installed package ({found})"
    return f"{top!r} names {place}, but also {other}, which Python imports instead: rename yours"
