"""`ray-classy recipes`."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.config.recipe_files import PREFIX, recipe_file, recipe_head, recipe_names

_WIDTH = 110


def recipes(arguments: argparse.Namespace) -> Answer:
    """Lists the recipes, what they train and what result to expect, or prints the file of one.

    Raises:
        UsageError: there is more than one word.
        ConfigError: there is no such recipe.
    """
    words = arguments.words
    if len(words) > 1:
        raise UsageError(f"recipes takes the name of one recipe, not {' '.join(words[1:])!r} beside it")
    if words:
        text = recipe_file(words[0]).read_text(encoding="utf-8")
        return Answer(text.rstrip("\n"), {"recipe": words[0].removeprefix(PREFIX), "text": text})
    heads = {name: recipe_head(recipe_file(name).read_text(encoding="utf-8")) for name in recipe_names()}
    return Answer("\n".join(_lines(heads)), {"recipes": heads})


def _lines(heads: dict[str, dict[str, str]]) -> Iterator[str]:
    for name, head in heads.items():
        yield from textwrap.wrap(f"{name}: {head['what']}", _WIDTH, subsequent_indent="    ")
        expected = f"expected: {head.get('Expected', 'not measured')}"
        yield from textwrap.wrap(expected, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    yield ""
    yield "train one: ray-classy train recipe:NAME; copy it: ray-classy recipes NAME > my.yaml"
