"""The configs that come with the package: `recipe:NAME` is the path of one."""

from __future__ import annotations

from pathlib import Path

from ray_classy.errors import ConfigError
from ray_classy.registry import nearest

PREFIX = "recipe:"
"""How a path begins that names a recipe."""
HEAD_KEYS = ("Source", "Expected", "Cost")
"""What the head of a recipe says, besides what it trains and the command."""
_PACKAGE = Path(__file__).resolve().parent.parent
_SUFFIX = ".yaml"


def recipe_names() -> list[str]:
    """Lists the names of all recipes: paths in the folder of recipes, without `.yaml`."""
    folder = recipes_folder()
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob(f"*{_SUFFIX}"))


def recipe_file(name: str) -> Path:
    """Returns the file of a recipe.

    Args:
        name: with or without `recipe:` before it.

    Raises:
        ConfigError: there is no recipe of that name.
    """
    name = name.removeprefix(PREFIX)
    known = recipe_names()
    if name not in known:
        near = nearest(name.removesuffix(_SUFFIX), known)
        hint = f"did you mean {near}? " if near else ""
        raise ConfigError(f"there is no recipe {name!r}: {hint}ray-classy recipes lists them")
    return recipes_folder() / f"{name}{_SUFFIX}"


def recipe_head(text: str) -> dict[str, str]:
    """Reads the comment at the top of a recipe.

    Args:
        text: the content of the file.

    Returns:
        Under `what` the first paragraph, and under each of `HEAD_KEYS` the text that follows it and a colon.
    """
    lines = [line.removeprefix("#").strip() for line in text.partition("\n\n")[0].splitlines()]
    found: dict[str, str] = {}
    key = "what"
    for line in lines:
        word, colon, rest = line.partition(": ")
        if colon and word in HEAD_KEYS:
            key, line = word, rest
        if key and line:
            found[key] = f"{found[key]} {line}" if key in found else line
        else:
            key = ""
    return found


def recipes_folder() -> Path:
    """Returns the folder of recipes: `recipes` in an installed package, `configs` beside it in a source tree."""
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"
