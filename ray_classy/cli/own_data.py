"""--images, --manifest, --parquet and --shards: the recipe for a user's own data, with values chosen from the data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.duration import seconds_of
from ray_classy.cli.own_source import FLAGS, PLACES, Source, find_source

RECIPE = "recipe:own_folder"
SWEEP = "recipe:sweeps/own_folder"


def words_of(arguments: argparse.Namespace) -> list[str]:
    """Returns the words of a command line: with a flag such as --images, the recipe and the overrides that fill it in.

    What is chosen, and what is odd in the data, is printed.

    Raises:
        UsageError: there is a config besides, two of the flags, or one that goes with them is given without.
        RayClassyError: there is no such data, or it cannot be read.
    """
    words: list[str] = arguments.words
    sources = [flag for flag in PLACES if getattr(arguments, flag, None) is not None]
    given = [flag for flag in (*FLAGS, "budget") if getattr(arguments, flag, None) is not None]
    if not sources:
        if given and given[0] == "budget":
            raise UsageError("--budget goes with --images and its like; in a config, the key is tune.time_budget_s")
        if given:
            keys = "model, dataset.test and dataset.split"
            raise UsageError(f"--{given[0]} goes with --images DIR and its like; in a config, the keys are {keys}")
        return words
    flag = sources[0]
    if len(sources) > 1:
        raise UsageError(f"--{flag} and --{sources[1]} are given: take one of them")
    for option in ("resume", "extend"):
        if getattr(arguments, option, None) is not None:
            raise UsageError(f"--{option} has the config of its run: leave out --{flag}")
    if getattr(arguments, "budget", None) is not None:
        seconds_of(arguments.budget)
    recipe = SWEEP if arguments.command == "tune" else RECIPE
    if words and "=" not in words[0]:
        more = "quote a pattern, so that the shell leaves it" if flag in ("parquet", "shards") else "leave it out"
        raise UsageError(f"--{flag} takes {recipe}, and {words[0]!r} is one word too many: {more}")
    return [recipe, *_overrides(arguments, flag, recipe)]


def chosen_model_flag(arguments: argparse.Namespace) -> str | None:
    """Returns the flag that decides on the model of a command line, for messages; None if none does."""
    if any(word.partition("=")[0].split(".")[0].strip() == "model" for word in arguments.words):
        return None
    for flag in ("weights", "model"):
        value = getattr(arguments, flag, None)
        if value is not None:
            return f"--{flag} {value}"
    return None


def _overrides(arguments: argparse.Namespace, flag: str, recipe: str) -> list[str]:
    """Returns the overrides of the recipe: the source, what is chosen, and the user's own, which count."""
    from ray_classy.config import apply_overrides, load_config
    from ray_classy.config.overrides import override_texts

    place, words = getattr(arguments, flag), arguments.words
    whole = load_config(recipe)
    own = apply_overrides(whole, words)
    sections = own.get("dataset")
    own_train, own_test = (_section(sections, phase_type) for phase_type in ("train", "test"))
    test = arguments.test if arguments.test is not None else own_test.get(PLACES[flag])
    if test is not None and arguments.split is not None:
        raise UsageError("--split takes test rows from those to train on, and --test names others: use one of them")
    in_recipe = _section(whole.get("dataset"), "train")
    source = find_source(
        flag, place, test, {key: value for key, value in own_train.items() if value != in_recipe.get(key)}
    )
    data = _source_overrides(source, in_recipe, arguments.split)
    config = apply_overrides(whole, [*override_texts(data), *words])
    from ray_classy.cli.own_fill import filled  # which imports torch: a mistake in the flags is reported before

    return [*override_texts({**data, **filled(arguments, source, config)}), *words]


def _section(sections: Any, phase_type: str) -> dict[str, Any]:
    section = sections.get(phase_type) if isinstance(sections, Mapping) else None
    return dict(section) if isinstance(section, Mapping) else {}


def _source_overrides(source: Source, in_recipe: Mapping[str, Any], split: float | None) -> dict[str, Any]:
    common = {key: value for key, value in in_recipe.items() if key not in PLACES.values()}
    found: dict[str, Any] = {"dataset.train": {**common, **source.train}}
    if source.test is not None:
        found |= {"dataset.split": None, **{f"dataset.test.{key}": value for key, value in source.test.items()}}
    elif split is not None:
        found["dataset.split.test"] = split
    return found
